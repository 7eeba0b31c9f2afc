"""Whether two generators kept the same masks of an image, and if not, which rule parted them.

A candidate is known by its crop, its point and its predicted IoU, so that the fate of one generator's mask can be
looked up among the masks and rejections of the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

from sam_core.masks.batch import Generation, MaskRecords, Reason, Rejections

NEAR = 0.01  # px within which two points are the same


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of masks over some images; `reference` and `other` are the two generators.

    matched      pairs, one to one, of at least the IoU asked for
    larger       sum over images of the larger of both counts
    changed      masks of the reference that the other kept as well, but drew differently
    lost, gained  masks that only the reference, or only the other, kept, by the rule that the other side named
    same_count   images on which both kept equally many
    """

    images: int = 0
    same_count: int = 0
    reference: int = 0
    other: int = 0
    larger: int = 0
    matched: int = 0
    changed: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    gained: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Matched pairs as a share of the masks of whichever side kept more; 1 where neither kept any."""
        return self.matched / self.larger if self.larger else 1.0


def compare(reference: Generation, other: Generation, *, iou: float = 0.999) -> Agreement:
    """The agreement of two generations of one image under one recipe."""
    left, right = unmatched(reference.masks, other.masks, iou=iou)
    fates = Counter(fate(reference.masks, index, other) for index in left)
    origins = Counter(fate(other.masks, index, reference) for index in right)
    counts = len(reference.masks), len(other.masks)
    return Agreement(
        images=1,
        same_count=int(counts[0] == counts[1]),
        reference=counts[0],
        other=counts[1],
        larger=max(counts),
        matched=counts[0] - len(left),
        changed=fates[None],
        lost=_by_rule(fates),
        gained=_by_rule(origins),
    )


def total(agreements: Iterable[Agreement]) -> Agreement:
    """The sum of the agreements of some images."""
    parts = list(agreements)
    numbers = ("images", "same_count", "reference", "other", "larger", "matched", "changed")
    return Agreement(
        **{name: sum(getattr(part, name) for part in parts) for name in numbers},
        lost=sum((part.lost for part in parts), Counter()),
        gained=sum((part.gained for part in parts), Counter()),
    )


def unmatched(
    reference: MaskRecords, other: MaskRecords, *, iou: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the masks on either side that the best one-to-one assignment leaves without a partner."""
    overlap = overlaps(reference, other)
    rows, columns = linear_sum_assignment(np.where(overlap >= iou, 1 + overlap, 0), maximize=True)
    good = overlap[rows, columns] >= iou
    left = np.setdiff1d(np.arange(len(reference)), rows[good])
    right = np.setdiff1d(np.arange(len(other)), columns[good])
    return left, right


def overlaps(reference: MaskRecords, other: MaskRecords) -> npt.NDArray[np.float64]:
    """IoU [N, M], exact, of masks of one image."""
    rows, columns = ([{"size": list(masks.size), "counts": rle} for rle in masks.rle] for masks in (reference, other))
    found = coco.iou(rows, columns, [0] * len(columns)) if rows and columns else []
    return np.asarray(found, np.float64).reshape(len(rows), len(columns))


def fate(masks: MaskRecords, index: int, there: Generation) -> Reason | None:
    """What became of the candidate behind a mask in another generation: the rule that rejected it, None if kept.

    Raises ValueError when the other generation never had that candidate.
    """
    kept, gone = _distance(masks, index, there.masks), _distance(masks, index, there.rejections)
    if not np.isfinite([*kept, *gone]).any():
        raise ValueError("the two generations do not come from the same crops and points")
    if len(kept) and (not len(gone) or kept.min() <= gone.min()):
        return None
    return list(Reason)[int(there.rejections.reason[gone.argmin()])]


def _distance(masks: MaskRecords, index: int, rows: MaskRecords | Rejections) -> npt.NDArray[np.floating[npt.NBitBase]]:
    """Difference in predicted IoU of each of some rows to a mask; infinite for other crops and points."""
    same = (rows.crop_boxes == masks.crop_boxes[index]).all(1)
    same &= (np.abs(rows.points - masks.points[index]) < NEAR).all(1)
    return np.where(same, np.abs(rows.predicted_iou - masks.predicted_iou[index]), np.inf)


def _by_rule(fates: Counter[Reason | None]) -> Counter[str]:
    return Counter({reason.value: count for reason, count in fates.items() if reason is not None})
