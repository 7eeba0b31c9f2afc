"""Greedy non-maximum suppression of boxes."""

import numpy as np
from numpy.typing import NDArray

from sam_core.machine_code import entry
from sam_core.masks.boxes import Boxes

Floats = NDArray[np.float32]


def nms(boxes: Boxes, scores: NDArray[np.generic], *, threshold: float) -> NDArray[np.int64]:
    """Positions (int64 [K], best first) of the boxes that no better kept box overlaps by an IoU above `threshold`.

    boxes   [N, 4] x0 y0 x1 y1 in one frame; a side is the plain difference of its corners
    scores  [N]; of equal scores the earlier box is the better one

    Two boxes without area have no IoU and do not suppress each other. Order and float32 arithmetic are those of
    torchvision.ops.nms, which the released generator uses.
    """
    order = np.argsort(-scores.astype(np.float32), kind="stable")
    return order[_greedy(boxes.astype(np.float32)[order], threshold)]


@entry
def _greedy(boxes: Floats, threshold: float) -> NDArray[np.bool_]:
    """Which boxes [N, 4], the best first, stay."""
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    stays = np.ones(len(boxes), np.bool_)
    for best in range(len(boxes)):
        if not stays[best]:
            continue
        for other in range(best + 1, len(boxes)):
            width = min(boxes[best, 2], boxes[other, 2]) - max(boxes[best, 0], boxes[other, 0])
            height = min(boxes[best, 3], boxes[other, 3]) - max(boxes[best, 1], boxes[other, 1])
            shared = max(width, np.float32(0)) * max(height, np.float32(0))
            # Widened, so that the threshold is not rounded to float32 first. NaN is no overlap.
            if np.float64(shared / (areas[best] + areas[other] - shared)) > threshold:
                stays[other] = False
    return stays
