"""Greedy non-maximum suppression of boxes."""

import numpy as np
from numpy.typing import NDArray

from sam_core.masks.boxes import Boxes

Floats = NDArray[np.float32]


def nms(boxes: Boxes, scores: NDArray[np.generic], *, threshold: float) -> NDArray[np.int64]:
    """Positions (int64 [K], best first) of the boxes that no better kept box overlaps by an IoU above `threshold`.

    boxes   [N, 4] x0 y0 x1 y1 in one frame; a side is the plain difference of its corners
    scores  [N]; of equal scores the earlier box is the better one

    Two boxes without area have no IoU and do not suppress each other. Order and float32 arithmetic are those of
    torchvision.ops.nms, which the released generator uses.
    """
    corners = boxes.astype(np.float32)
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    remaining = np.argsort(-scores.astype(np.float32), kind="stable")
    keep = []
    while len(remaining):
        best, others = remaining[0], remaining[1:]
        keep.append(best)
        overlap = _iou(corners[best], areas[best], corners[others], areas[others])
        # Widened, so that the threshold is not rounded to float32 first. NaN is no overlap.
        remaining = others[~(overlap.astype(np.float64) > threshold)]
    return np.array(keep, dtype=np.int64)


def _iou(box: Floats, area: np.float32, others: Floats, other_areas: Floats) -> Floats:
    """IoU of one box [4] with others [N, 4]; NaN where neither has area."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    intersection = np.clip(sides, 0, None).prod(axis=1)
    with np.errstate(invalid="ignore"):
        iou: Floats = intersection / (area + other_areas - intersection)
    return iou
