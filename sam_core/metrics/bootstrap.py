"""Confidence intervals of a mean by resampling: how far a figure would move with other images of the same kind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DRAWS_AT_ONCE = 250


class Interval(NamedTuple):
    """A mean and the bounds that hold 95 % of its resamples."""

    mean: float
    low: float
    high: float


def mean_interval(
    values: npt.NDArray[np.float64], clusters: npt.NDArray[np.integer], rng: np.random.Generator, *, draws: int = 2000
) -> Interval:
    """The mean of values [N] and its 95 % interval: percentile bootstrap, whole clusters [N] drawn with replacement.

    Masks of one image rise and fall together, so images are drawn, not masks. Raises ValueError for no values.
    """
    if not len(values):
        raise ValueError("no values to average")
    _, cluster = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(cluster, values), np.bincount(cluster)
    n = len(sums)
    means = []
    for start in range(0, draws, DRAWS_AT_ONCE):
        times = rng.multinomial(n, np.full(n, 1 / n), size=min(DRAWS_AT_ONCE, draws - start))
        means.append((times @ sums) / (times @ sizes))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))
