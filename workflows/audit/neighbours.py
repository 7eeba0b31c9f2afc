"""Pairs of things that lie near one another once they are sorted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def pairs_until(ends: Ints) -> tuple[Ints, Ints]:
    """All pairs of a place in a sorted column with each later one before its end.

    ends: int64 [N], for each place the first later one that is too far away.
    """
    places = np.arange(len(ends))
    followers = np.maximum(ends - places - 1, 0)
    one = np.repeat(places, followers)
    other = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(followers) - followers, followers)
    return one, other
