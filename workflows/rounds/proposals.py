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
from sam_core.masks import rle
from sam_core.masks.batch import Generation, MaskRecords, Reason, Rejections, StepSeconds
from sam_core.masks.boxes import tight_boxes, to_xywh
from sam_core.metrics.iou import iou_matrix, mask_areas
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Look, Prompts, decode
from sam_core.windows import Box, by_window, outline

Floats = NDArray[np.float64]
_DUPLICATE = 0.7  # mask IoU from which the less confident of two is dropped
_PROMPTS = 64


@dataclass(frozen=True, slots=True)
class Proposals:
    """Masks of one image, the most confident first. masks: bool [K, H, W]. boxes: float32 [K, 4] xyxy px, original
    frame. confidence: float64 [K], predicted IoU times stability. predicted_iou, stability: [K]."""

    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    confidence: Floats
    predicted_iou: NDArray[np.float32]
    stability: NDArray[np.float32]


@torch.inference_mode()
def propose(
    sam: Sam, detector: ObjectDetector, look: Look, size: tuple[int, int], *, most: int, least: float
) -> Proposals:
    """What detector and model find on an image of (height, width) px; of the boxes that score at least `least`, and of
    these the `most` likely ones, each is drawn in its window."""
    whole = look((0, 0, size[1], size[0]))
    frame = whole.frames[0]
    found = detect(detector, whole.features, frame.input_size, limit=most, least=least)
    boxes = boxes_to_original(found, frame)
    if not len(boxes):
        return _none(frame)
    masks, iou, stability = _draw_all(sam, look, size, boxes)
    confidence = (iou.clamp(0, 1) * stability).double().numpy()
    order = np.argsort(-confidence, kind="stable")
    order = order[masks[order].any(-1).any(-1).numpy()]
    kept = order[_distinct(masks[order])]
    scores = (iou[kept].float().numpy(), stability[kept].float().numpy())
    return Proposals(masks[kept].numpy(), boxes[kept], confidence[kept], *scores)


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


def judge(found: Proposals, truth: NDArray[np.bool_]) -> Judged:
    """Match proposals, the most confident first, each to the free true mask it overlaps most."""
    real = np.zeros(len(found.masks))
    if len(truth) and len(real):
        overlap = iou_matrix(torch.from_numpy(found.masks), torch.from_numpy(truth)).numpy()
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
    keep = found.confidence >= (np.inf if threshold is None else threshold)
    masks = found.masks[keep]
    middles = ((found.boxes[:, :2] + found.boxes[:, 2:]) / 2).astype(np.float32)
    crop = np.array([[0, 0, size[1], size[0]]], np.int32)
    records = MaskRecords(
        size=size,
        rle=tuple(rle.encode(mask) for mask in masks),
        boxes=to_xywh(tight_boxes(torch.from_numpy(masks)).numpy()),
        areas=np.count_nonzero(masks, axis=(1, 2)).astype(np.int64),
        predicted_iou=found.predicted_iou[keep],
        stability_score=found.stability[keep],
        points=middles[keep],
        crop_boxes=crop.repeat(len(masks), 0),
    )
    dropped = int((~keep).sum())
    rejections = Rejections(
        reason=np.full(dropped, Reason.IOU.code, np.int8),
        points=middles[~keep],
        output=np.zeros(dropped, np.int8),
        predicted_iou=found.predicted_iou[~keep],
        stability_score=found.stability[~keep],
        crop_boxes=crop.repeat(dropped, 0),
    )
    return Generation(records, rejections, StepSeconds())


def _draw_all(
    sam: Sam, look: Look, size: tuple[int, int], boxes: NDArray[np.float32]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The most confident of three masks for each box: bool [N, H, W], predicted IoU [N], stability [N]."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    iou, stability = torch.zeros(len(boxes)), torch.zeros(len(boxes))
    for seen in by_window(size, (_outline(box, size) for box in boxes)):
        embedding, (x0, y0, x1, y1) = look(seen.window), seen.window
        for at in range(0, len(seen.indices), _PROMPTS):
            some = seen.indices[at : at + _PROMPTS]
            masks[some, y0:y1, x0:x1], iou[some], stability[some] = _draw(sam, embedding, boxes[some])
    return masks, iou, stability


def _draw(
    sam: Sam, embedding: ImageEmbedding, boxes: NDArray[np.float32]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `_draw_all`, for boxes that lie in the one window of the embedding; masks in its frame."""
    best = decode(sam, embedding, Prompts(boxes=torch.from_numpy(boxes)), multimask=True).best()
    tight, masks, loose = (best.masks(threshold)[:, 0].cpu() for threshold in (1.0, 0.0, -1.0))
    return masks, best.iou[:, 0].cpu(), mask_areas(tight) / mask_areas(loose).clamp(min=1)


def _outline(box: NDArray[np.float32], size: tuple[int, int]) -> Box:
    """The whole px of an image of `size` that a box [4] touches, at least one."""
    x0, y0, x1, y1 = outline(box.tolist())
    left, top = min(size[1] - 1, max(0, x0)), min(size[0] - 1, max(0, y0))
    return left, top, max(left + 1, min(size[1], x1)), max(top + 1, min(size[0], y1))


def _distinct(masks: torch.Tensor) -> list[int]:
    """Indices of the masks that no earlier kept one overlaps too much."""
    overlap = iou_matrix(masks, masks).numpy()
    kept: list[int] = []
    for index in range(len(masks)):
        if not kept or overlap[index, kept].max() < _DUPLICATE:
            kept.append(index)
    return kept


def _none(frame: Frame) -> Proposals:
    empty = np.zeros(0, np.float32)
    return Proposals(
        np.zeros((0, *frame.original_size), np.bool_), empty.reshape(0, 4), empty.astype(np.float64), empty, empty
    )
