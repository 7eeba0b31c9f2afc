"""From boxes to prefilled masks: the detector proposes, SAM draws in windows, a threshold keeps those that are probably
right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.detector import Found, ObjectDetector, detect
from sam_core.geometry import Frame
from sam_core.masks import kernels
from sam_core.masks.batch import Generation, Reason, StepSeconds
from sam_core.masks.candidates import KEPT, Candidates, Ledger, concatenate, decoded, records
from sam_core.masks.packed import PackedMasks
from sam_core.metrics.iou import iou_matrix
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Look, Prompts, decode
from sam_core.windows import Box, by_window, outline

Floats = NDArray[np.float64]
_DUPLICATE = 0.7  # mask IoU from which the less confident of two is dropped
_PROMPTS = 64
_OFFSET = 1.0  # of the logits between whose masks stability is the IoU


@dataclass(frozen=True, slots=True)
class Proposals:
    """Masks of one image, the most confident first. masks: K encoded candidates, whose points are the middles of the
    boxes that they were drawn for. confidence: float64 [K], predicted IoU times stability."""

    masks: Candidates
    confidence: Floats


@torch.inference_mode()
def propose(
    sam: Sam, detector: ObjectDetector, look: Look, size: tuple[int, int], *, most: int, least: float
) -> Proposals:
    """What detector and model find on an image of (height, width) px; of the boxes that score at least `least`, and of
    these the `most` likely ones, each is drawn in its window."""
    whole = look((0, 0, size[1], size[0]))
    frame = whole.frames[0]
    found = detect(detector, whole.features, frame.input_size, limit=most, least=least)
    drawn = _draw_all(sam, look, size, boxes_to_original(found, frame))
    confidence = (drawn.predicted_iou.clip(0, 1) * drawn.stability_score).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    order = order[drawn.areas[order] > 0]
    masks = drawn[order].encoded()
    rles = masks.rle.tolist()
    kept = _distinct(iou_matrix(rles, rles, size))
    return Proposals(masks[kept], confidence[order[kept]])


def boxes_to_original(found: Found, frame: Frame) -> NDArray[np.float32]:
    """Boxes in px of the model input, in px of the original image."""
    (crop_h, crop_w), (input_h, input_w) = frame.crop_size, frame.input_size
    scale = np.array([crop_w / input_w, crop_h / input_h] * 2, np.float32)
    return np.asarray(found.boxes * scale, np.float32)


@dataclass(frozen=True, slots=True)
class Judged:
    """Proposals of several images against their true masks. confidence, real_iou: [K], real_iou being the IoU with the
    true mask that a proposal was matched to, 0 for none. objects: how many true masks there are."""

    confidence: Floats
    real_iou: Floats
    objects: int

    def precision_recall(self, threshold: float | None, iou: float) -> tuple[float, float]:
        """Of the proposals at or above a threshold; precision is 0 where there are none."""
        taken = np.zeros(0) if threshold is None else self.real_iou[self.confidence >= threshold]
        right = int((taken >= iou).sum())
        return right / max(1, len(taken)), right / max(1, self.objects)


def judge(found: Proposals, truth: PackedMasks) -> Judged:
    """Match proposals, the most confident first, each to the free true mask it overlaps most."""
    real = np.zeros(len(found.masks))
    if len(truth):
        overlap = iou_matrix(found.masks.rle.tolist(), truth.rles, truth.size)
        for row in range(len(overlap)):
            best = int(overlap[row].argmax())
            real[row] = overlap[row, best]
            if real[row] > 0.5:  # more than half of one object cannot be more than half of another
                overlap[:, best] = 0.0
    return Judged(found.confidence, real, len(truth))


def together(parts: Sequence[Judged]) -> Judged:
    """Judged proposals of all images."""
    confidence, real = (
        np.concatenate([np.zeros(0), *(getattr(p, name) for p in parts)]) for name in ("confidence", "real_iou")
    )
    return Judged(confidence, real, sum(part.objects for part in parts))


def choose_threshold(judged: Judged, *, precision: float, iou: float) -> float | None:
    """The lowest confidence whose proposals, and those above it, are right often enough; None when there is none."""
    order = np.argsort(-judged.confidence, kind="stable")
    confidence, right = judged.confidence[order], np.cumsum(judged.real_iou[order] >= iou)
    last = np.diff(confidence, append=-np.inf) < 0  # of equal ones, which no threshold tells apart
    precise = np.flatnonzero(last & (right / np.arange(1, len(order) + 1) >= precision))
    return float(confidence[precise[-1]]) if len(precise) else None


def as_generation(found: Proposals, threshold: float | None, size: tuple[int, int]) -> Generation:
    """Proposals as a generator's masks: those below the threshold are rejections for their predicted IoU."""
    is_sure = found.confidence >= (np.inf if threshold is None else threshold)
    ledger = Ledger()
    kept = ledger.settle(found.masks, np.where(is_sure, KEPT, Reason.IOU.code).astype(np.int8))
    return Generation(records(kept, size), ledger.rejections, StepSeconds())


def _draw_all(sam: Sam, look: Look, size: tuple[int, int], boxes: NDArray[np.float32]) -> Candidates:
    """The most confident of three masks for each box [N, 4], as run lengths."""
    places, drawn = [np.zeros(0, np.int64)], [_no_candidates(size)]
    for seen in by_window(size, (_outline(box, size) for box in boxes)):
        embedding = look(seen.window)
        for at in range(0, len(seen.indices), _PROMPTS):
            places.append(seen.indices[at : at + _PROMPTS])
            drawn.append(_draw(sam, embedding, boxes[places[-1]]))
    return concatenate(drawn)[np.argsort(np.concatenate(places))]


def _draw(sam: Sam, embedding: ImageEmbedding, boxes: NDArray[np.float32]) -> Candidates:
    """As `_draw_all`, for boxes that lie in the one window of the embedding."""
    best = decode(sam, embedding, Prompts(boxes=torch.from_numpy(boxes)), multimask=True).best()
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    drawn = decoded(middles.astype(np.float64), best.iou.cpu().numpy(), best.frame.crop_box)
    return drawn.measured(kernels.measure(best.logits[:, 0], best.frame, offset=_OFFSET))


def _no_candidates(size: tuple[int, int]) -> Candidates:
    return decoded(np.zeros((0, 2)), np.zeros((0, 1), np.float32), (0, 0, size[1], size[0]))


def _outline(box: NDArray[np.float32], size: tuple[int, int]) -> Box:
    """The whole px of an image of `size` that a box [4] touches, at least one."""
    x0, y0, x1, y1 = outline(box.tolist())
    left, top = min(size[1] - 1, max(0, x0)), min(size[0] - 1, max(0, y0))
    return left, top, max(left + 1, min(size[1], x1)), max(top + 1, min(size[0], y1))


def _distinct(overlap: Floats) -> NDArray[np.int64]:
    """Of masks with these IoUs [N, N] the positions of those that no earlier kept one overlaps too much."""
    kept: list[int] = []
    for index in range(len(overlap)):
        if not kept or overlap[index, kept].max() < _DUPLICATE:
            kept.append(index)
    return np.array(kept, np.int64)
