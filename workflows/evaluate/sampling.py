"""Which images of a set are measured: all, a few drawn at random, or, of a large set, as many as hold enough masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from workflows.evaluate.task import rng_of
from workflows.evaluate.truth import TruthSet, read_masks
from workflows.failures import is_of_the_machine
from workflows.uris import UriReader


@dataclass(frozen=True, slots=True)
class Cut:
    """A set of more than `most` masks is cut down to images that hold `enough` (paper §D.1: 15,000 and 10,000)."""

    most: int
    enough: int


def draw_from_all(sets: Sequence[TruthSet], *, seed: int, limit: int | None, cut: Cut | None = None) -> pa.Table:
    """The chosen rows of several sets, one set after the other. Raises ValueError when two have one name."""
    names = [truth.name for truth in sets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two data sets are called {twice[0]!r}; name them: --data ONE=PLACE OTHER=PLACE")
    return pa.concat_tables([draw_images(truth, seed=seed, limit=limit, cut=cut) for truth in sets])


def draw_images(truth: TruthSet, *, seed: int, limit: int | None = None, cut: Cut | None = None) -> pa.Table:
    """The chosen rows of a set in their own order; the draw depends on the seed and the set's name alone."""
    order = rng_of(seed, truth.name).permutation(len(truth.rows))[:limit]
    if cut is not None:
        order = order[: _enough(truth.rows, order, cut, UriReader())]
    return truth.rows.take(pa.array(np.sort(order)))


def _enough(rows: pa.Table, order: np.ndarray, cut: Cut, reader: UriReader) -> int:
    """How many images of the order are measured. Files of truth are read only until the answer is known."""
    masks, enough = 0, len(order)
    for number, place in enumerate(order.tolist(), start=1):
        masks += _masks_of(rows, place, reader)
        if masks >= cut.enough and enough == len(order):
            enough = number
        if masks > cut.most:
            return enough
    return len(order)


def _masks_of(rows: pa.Table, place: int, reader: UriReader) -> int:
    """None where the truth is at fault, as whoever measures the image will say. Raises OSError when a store is."""
    (row,) = rows.slice(place, 1).to_pylist()
    try:
        return int((~read_masks(row, reader).crowd).sum())
    except (ValueError, OSError) as fault:
        if is_of_the_machine(fault):
            raise
        return 0
