"""Confidence intervals of a mean by resampling: how far a figure would move with other images of the same kind."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DRAWS_AT_ONCE = 250


class Interval(NamedTuple):
    """A mean and the bounds that hold the given share of its resamples."""

    mean: float
    low: float
    high: float


def mean_interval(
    values: npt.NDArray[np.float64],
    clusters: npt.NDArray[np.integer],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    draws: int = 2000,
) -> Interval:
    """Percentile bootstrap of the mean of values [N], whole clusters [N] drawn with replacement.

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
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))
