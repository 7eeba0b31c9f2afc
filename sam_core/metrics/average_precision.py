"""COCO's average precision of scored masks, in two steps: match inside an image, then rank over all images.

Same numbers as COCOeval for segmentations. Inside an image and category the detections, best first, each take the free
true mask that they overlap most, ordinary ones before ignored ones (crowds, and areas outside of the range); a crowd
can be taken many times. A detection that took an ignored mask, or took none and lies outside of the range, does not
count. Precision is made to fall with recall and read at 101 recalls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_core.metrics.recall import SIZES, THRESHOLDS, of_size

MOST_DETECTIONS = 100
RECALLS = np.linspace(0, 1, 101)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Detections:
    """D detections of one category in one image against its G true masks.

    scores [D]; areas [D] px, of the detections; iou [D, G], for a crowd the share of the detection inside, as in
    pycocotools; true_areas [G] px, as annotated; crowd bool [G].
    """

    scores: Floats
    areas: Floats
    iou: Floats
    true_areas: Floats
    crowd: Bools

    def __post_init__(self) -> None:
        if self.iou.shape != (len(self.scores), len(self.true_areas)):
            raise ValueError(
                f"IoU of shape {self.iou.shape} for {len(self.scores)} detections and {len(self.true_areas)} masks"
            )


@dataclass(frozen=True, slots=True)
class Matches:
    """What became of D detections of one category, over any images, for one range of areas.

    scores [D]; hit, ignored bool [D, T]; positives: true masks that count.
    """

    scores: Floats
    hit: Bools
    ignored: Bools
    positives: int


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """AP in 0..1 over IoU .5:.05:.95 and all categories; ap50 and ap75 at one IoU; NaN where there is no true mask."""

    all: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float


def match_detections(found: Detections, size: str) -> Matches:
    """The MOST_DETECTIONS best detections of one image and category against its truth; `size` is a name of SIZES."""
    order = np.argsort(-found.scores, kind="stable")[:MOST_DETECTIONS]
    ignored_truth = found.crowd | ~of_size(found.true_areas, size)
    truth = np.argsort(ignored_truth, kind="stable")  # ordinary ones first
    taken = _match(found.iou[np.ix_(order, truth)], ignored_truth[truth], found.crowd[truth])
    hit = taken >= 0
    took_ignored = hit & np.append(ignored_truth[truth], False)[taken]
    outside = ~of_size(found.areas[order], size)[:, None]
    return Matches(
        found.scores[order], hit & ~took_ignored, took_ignored | (~hit & outside), int((~ignored_truth).sum())
    )


def average_precision(categories: Sequence[dict[str, Matches]]) -> AveragePrecision:
    """AP over categories; each has by the names of SIZES the matches of all images,
    one after the other in the order of their ids, which settles equal scores."""
    by_size = {
        size: np.array([precision_by_threshold(category[size]) for category in categories]).reshape(-1, len(THRESHOLDS))
        for size in SIZES
    }
    return AveragePrecision(
        all=_mean(by_size["all"]),
        ap50=_mean(by_size["all"][:, 0]),
        ap75=_mean(by_size["all"][:, 5]),
        small=_mean(by_size["small"]),
        medium=_mean(by_size["medium"]),
        large=_mean(by_size["large"]),
    )


def precision_by_threshold(matches: Matches) -> Floats:
    """Mean precision over RECALLS at each threshold, [T]; NaN without true masks."""
    if matches.positives == 0:
        return np.full(len(THRESHOLDS), np.nan)
    order = np.argsort(-matches.scores, kind="stable")
    hit, counted = matches.hit[order], ~matches.ignored[order]
    return np.array([_precision(hit[:, t], counted[:, t], matches.positives) for t in range(len(THRESHOLDS))])


def _precision(hit: Bools, counted: Bools, positives: int) -> float:
    hits, misses = np.cumsum(hit & counted), np.cumsum(~hit & counted)
    precision = hits / (hits + misses + np.spacing(1))
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(hits / positives, RECALLS, side="left")
    return float(np.append(falling, 0.0)[np.minimum(place, len(falling))].mean())


def _match(iou: Floats, ignored: Bools, crowd: Bools) -> npt.NDArray[np.int64]:
    """Which true mask each detection takes at each threshold, -1 for none: [D, T]; iou [D, G], ordinary masks first."""
    taken = np.full((len(iou), len(THRESHOLDS)), -1, np.int64)
    for t, threshold in enumerate(THRESHOLDS):
        free = np.ones(iou.shape[1], np.bool_)
        for d, row in enumerate(iou):
            best = _best(row, (free | crowd) & (row >= threshold), ignored)
            taken[d, t] = best
            if best >= 0:
                free[best] = False
    return taken


def _best(row: Floats, possible: Bools, ignored: Bools) -> int:
    """The most overlapped of the possible ordinary masks, else of the ignored ones; of equal ones the last."""
    for candidates in (possible & ~ignored, possible & ignored):
        places = np.flatnonzero(candidates)
        if len(places):
            return int(places[len(places) - 1 - row[places][::-1].argmax()])
    return -1


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
