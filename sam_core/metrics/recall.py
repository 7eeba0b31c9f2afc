"""Class-agnostic mask average recall, AR@1000 of the proposal evaluation (paper §7.3, §D.3).

Same numbers as COCOeval with a single category and maxDets 1000: at each threshold the proposals, best first, each take
the free true mask they overlap most. Size ranges filter the true masks only; COCOeval lets a proposal take an ignored
mask only when no other fits, so dropping ignored masks (crowds, other sizes) beforehand does not change recall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

THRESHOLDS = np.linspace(0.5, 0.95, 10)
SMALL, MEDIUM = 32.0**2, 96.0**2  # px; areas on a limit belong to both sides, as in COCOeval

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """One image's proposals against its truth.

    iou: [P, G] float64, proposals in rows, BEST RANKED FIRST. areas: [G] float64 px, of the true masks as annotated.
    """

    iou: Floats
    areas: Floats

    def __post_init__(self) -> None:
        if self.iou.ndim != 2 or self.iou.shape[1] != len(self.areas):
            raise ValueError(
                f"IoU of shape {self.iou.shape} for {len(self.areas)} true masks; expected [proposals, truth]"
            )


@dataclass(frozen=True, slots=True)
class AverageRecall:
    """Recall in 0..1 averaged over IoU .5:.05:.95, by area of the true mask; NaN where no true mask has that size."""

    all: float
    small: float
    medium: float
    large: float


@dataclass(frozen=True, slots=True)
class RecallCounts:
    """True masks of some images, and how many of them were found at each threshold: int64 [T]."""

    total: int
    found: Integers

    def __add__(self, other: RecallCounts) -> RecallCounts:
        return RecallCounts(self.total + other.total, self.found + other.found)

    @property
    def average(self) -> float:
        """Recall averaged over the thresholds; NaN without true masks."""
        return float((self.found / self.total).mean()) if self.total else float("nan")


NOTHING = RecallCounts(0, np.zeros(len(THRESHOLDS), np.int64))
SIZES = {
    "all": (0.0, np.inf),
    "small": (0.0, SMALL),
    "medium": (SMALL, MEDIUM),
    "large": (MEDIUM, np.inf),
}
"""Range of a true mask's area, px, by the name of the figure."""


def average_recall(images: Sequence[Overlaps], *, limit: int = 1000) -> AverageRecall:
    """AR over a data set, of the `limit` best ranked proposals per image."""
    counts = {
        name: sum((count_recall(image, of_size(image.areas, name), limit=limit) for image in images), NOTHING)
        for name in SIZES
    }
    return AverageRecall(**{name: found.average for name, found in counts.items()})


def count_recall(image: Overlaps, wanted: Bools, *, limit: int) -> RecallCounts:
    """Counts of one image over the true masks at `wanted`, bool [G], as if the others were not there, and of its
    `limit` best ranked proposals."""
    return RecallCounts(int(wanted.sum()), matched(image.iou[:limit, wanted]))


def of_size(areas: Floats, name: str) -> Bools:
    """Which areas (px) lie in the range that SIZES names."""
    low, high = SIZES[name]
    return (areas >= low) & (areas <= high)


def matched(iou: Floats) -> Integers:
    """How many true masks find a proposal at each of THRESHOLDS; iou [P, G] with the best ranked proposal first.

    Returns:
        [10] int64 counts.
    """
    least = THRESHOLDS[:, None]
    free = np.ones((len(THRESHOLDS), iou.shape[1]), np.bool_)
    useful = iou[iou.max(1, initial=0.0) >= least.min()]
    for row in useful[:, ::-1]:  # reversed: among equal overlaps COCOeval takes the last true mask
        gain = np.where(free & (row >= least), row, -1.0)
        best = gain.argmax(1)
        level = np.flatnonzero(gain.max(1) >= 0)
        free[level, best[level]] = False
    found: Integers = np.count_nonzero(~free, axis=1)
    return found
