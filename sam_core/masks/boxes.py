"""Boxes around masks, and the rule for boxes at the border of a crop.

While masks are being selected, a box is the int64 corners x0, y0, x1, y1 of its first and last pixel, as in the
released amg.py: its thresholds (crop borders, NMS) were tuned on these numbers, so a box of one pixel has no extent.
Results leave as xywh with w and h in pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import Frame

Boxes = NDArray[np.int64]


def tight_boxes(masks: Tensor) -> Tensor:
    """First and last pixel, int64 [N, 4] x0 y0 x1 y1, of bool masks [N, H, W]; zeros for an empty mask."""
    x0, x1 = _first_and_last(masks.any(dim=1))
    y0, y1 = _first_and_last(masks.any(dim=2))
    boxes = torch.stack([x0, y0, x1, y1], dim=1)
    return boxes * masks.any(dim=2).any(dim=1, keepdim=True)


def _first_and_last(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the first and of the last True in each row of bool [N, L]."""
    flags = occupied.to(torch.uint8)
    return flags.argmax(dim=1), flags.shape[1] - 1 - flags.flip(1).argmax(dim=1)


def near_crop_edge(boxes: Boxes, frame: Frame, *, tolerance: float) -> NDArray[np.bool_]:
    """Which boxes [N, 4] (original frame) have a side near a crop border that is no image border: bool [N].

    Near means at most `tolerance` px away. Last pixels are compared with the end-exclusive crop box, as in the released
    `is_box_near_crop_edge`.
    """
    height, width = frame.original_size
    near_crop = np.abs(boxes - np.array(frame.crop_box)) <= tolerance
    near_image = np.abs(boxes - np.array([0, 0, width, height])) <= tolerance
    near: NDArray[np.bool_] = np.any(near_crop & ~near_image, axis=1)
    return near


def to_xywh(boxes: Boxes) -> Boxes:
    """First and last pixel [N, 4] to x, y, width, height in pixels, as pycocotools' toBbox counts them."""
    first, last = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([first, last - first + 1], axis=1)
