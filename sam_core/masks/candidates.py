"""Candidate masks on their way through the generator, and the ledger that accounts for every one of them."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from sam_core.masks.batch import MaskRecords, Reason, Rejections, StepSeconds
from sam_core.masks.boxes import Boxes, to_xywh
from sam_core.masks.rle import compress_all, joined

KEPT = -1
"""Verdict on a candidate that no rule rejects; any other verdict is a `Reason.code`."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What the selection rules ask about K masks.

    stability_score  float32 [K]
    areas            int64 [K] px
    boxes            int64 [K, 4] x0 y0 x1 y1 of the first and last pixel, px, original image; zeros plus the crop's
                     corner for an empty mask
    runs             object [K] of int64 run lengths, see `rle`, original image
    """

    stability_score: NDArray[np.float32]
    areas: NDArray[np.int64]
    boxes: Boxes
    runs: NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Candidates:
    """N candidate masks of one image, one row each; all columns in the frame of the original image.

    points           float64 [N, 2] xy of the prompt, px
    output           int8 [N], which of the prompt's outputs
    predicted_iou    float32 [N]
    crop_boxes       int64 [N, 4] x0 y0 x1 y1, end exclusive, px
    stability_score  float32 [N], NaN until measured
    boxes            int64 [N, 4] first and last pixel, zeros until measured
    areas            int64 [N] px, zero until measured
    runs             object [N] of int64 run lengths, original image; None until measured, and once encoded
    rle              object [N] of COCO compressed counts, empty until encoded
    """

    points: NDArray[np.float64]
    output: NDArray[np.int8]
    predicted_iou: NDArray[np.float32]
    crop_boxes: Boxes
    stability_score: NDArray[np.float32]
    boxes: Boxes
    areas: NDArray[np.int64]
    runs: NDArray[np.object_]
    rle: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> "Candidates":
        """The rows that a bool mask or integer positions select, in that order."""
        return Candidates(*(getattr(self, field.name)[index] for field in fields(self)))

    def measured(self, measures: Measures) -> "Candidates":
        """The same candidates with what was measured of their masks."""
        return replace(self, **{field.name: getattr(measures, field.name) for field in fields(measures)})

    def encoded(self) -> "Candidates":
        """The same candidates with their run lengths as COCO compressed counts."""
        rle = object_column(compress_all(*joined(list(self.runs))))
        return replace(self, rle=rle, runs=np.full(len(self), None))

    def without_masks(self) -> "Candidates":
        """The same candidates with neither run lengths nor counts."""
        return replace(self, runs=np.full(len(self), None), rle=np.full(len(self), b"", dtype=object))


def object_column(values: Sequence[object]) -> NDArray[np.object_]:
    """Values as an array [N] of references, whatever they are."""
    return np.fromiter(values, dtype=np.object_, count=len(values))


def decoded(
    points: NDArray[np.float64], predicted_iou: NDArray[np.float32], crop_box: tuple[int, int, int, int]
) -> Candidates:
    """Unmeasured candidates of one decoded batch: points [P, 2] and predicted IoU [P, M] give P * M rows."""
    prompts, outputs = predicted_iou.shape
    n = prompts * outputs
    return Candidates(
        points=np.repeat(points, outputs, axis=0),
        output=np.tile(np.arange(outputs, dtype=np.int8), prompts),
        predicted_iou=predicted_iou.reshape(-1),
        crop_boxes=np.tile(np.array(crop_box, dtype=np.int64), (n, 1)),
        stability_score=np.full(n, np.nan, dtype=np.float32),
        boxes=np.zeros((n, 4), dtype=np.int64),
        areas=np.zeros(n, dtype=np.int64),
        runs=np.full(n, None),
        rle=np.full(n, b"", dtype=object),
    )


def concatenate(parts: Sequence[Candidates]) -> Candidates:
    """The rows of at least one part, one after the other."""
    return Candidates(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Candidates)))


def records(kept: Candidates, size: tuple[int, int]) -> MaskRecords:
    """Encoded candidates as results, in the same order; size is that of the original image (height, width)."""
    return MaskRecords(
        size=size,
        rle=tuple(kept.rle),
        boxes=to_xywh(kept.boxes),
        areas=kept.areas,
        predicted_iou=kept.predicted_iou,
        stability_score=kept.stability_score,
        points=kept.points.astype(np.float32),
        crop_boxes=_crop_xywh(kept),
    )


class Ledger:
    """The account of one image: who was rejected why, and how long each step took."""

    def __init__(self) -> None:
        self._rejected: list[tuple[Reason, Candidates]] = []
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the wall-clock time of the block to this step of `StepSeconds`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step] += time.perf_counter() - start

    def spend(self, step: str, seconds: float) -> None:
        """Add seconds to this step of `StepSeconds`: a share of what was done for several images together."""
        self._seconds[step] += seconds

    def settle(self, candidates: Candidates, verdicts: NDArray[np.int8]) -> Candidates:
        """The candidates whose verdict is KEPT; the others are booked under their reason's code."""
        for reason in Reason:
            self._book(reason, candidates[verdicts == reason.code])
        return candidates[verdicts == KEPT]

    def survivors(self, candidates: Candidates, keep: NDArray[np.int64], reason: Reason) -> Candidates:
        """The candidates at the positions `keep`, in that order; the others are booked under one reason."""
        gone = np.ones(len(candidates), dtype=np.bool_)
        gone[keep] = False
        self._book(reason, candidates[gone])
        return candidates[keep]

    def _book(self, reason: Reason, rejected: Candidates) -> None:
        self._rejected.append((reason, rejected.without_masks()))

    def add(self, other: "Ledger") -> None:
        """Take over another account: of a part of the same image, worked on beside this one."""
        self._rejected += other._rejected
        for step, seconds in other._seconds.items():
            self._seconds[step] += seconds

    @property
    def seconds(self) -> StepSeconds:
        """Time spent so far."""
        return StepSeconds(**self._seconds)

    @property
    def rejections(self) -> Rejections:
        """Everything booked so far, in order of rejection; ValueError if no rule has been asked yet."""
        gone = concatenate([rejected for _, rejected in self._rejected])
        codes = [np.full(len(rejected), reason.code, dtype=np.int8) for reason, rejected in self._rejected]
        return Rejections(
            reason=np.concatenate(codes),
            points=gone.points.astype(np.float32),
            output=gone.output,
            predicted_iou=gone.predicted_iou,
            stability_score=gone.stability_score,
            crop_boxes=_crop_xywh(gone),
        )


def _crop_xywh(candidates: Candidates) -> NDArray[np.int32]:
    corners = candidates.crop_boxes
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).astype(np.int32)
