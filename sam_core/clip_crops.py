"""What CLIP is shown of a mask (Kirillov et al. 2023, section D.5).

The mask's box is grown by 1x to 2x at random, made square about its centre, cut out of the image and resized; half of
the time pixels outside the mask are zero. The square is filled with what lies there in the image, and with zeros beyond
the image, so that nothing is distorted. Decided here: with several crops of a mask, exactly every second one has its
background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.windows import box_of

MOST_GROWTH = 2.0


@dataclass(frozen=True, slots=True)
class CropDraw:
    """What is drawn at random for a crop. grow: factor on the mask's box. background: keep pixels outside the mask."""

    grow: float
    background: bool


@dataclass(frozen=True, slots=True)
class CropBatch:
    """N crops for CLIP. pixels: [N, 3, S, S] float32 RGB 0..1. inside: [N, S, S] bool, the mask."""

    pixels: Tensor
    inside: Tensor


def draw_crops(rng: np.random.Generator, count: int) -> tuple[CropDraw, ...]:
    """Draws for `count` crops of one mask; the first has its background with probability one half."""
    first = bool(rng.random() < 0.5)
    return tuple(CropDraw(float(rng.uniform(1, MOST_GROWTH)), first ^ bool(number % 2)) for number in range(count))


def crop_window(mask: NDArray[np.bool_], grow: float) -> tuple[int, int, int]:
    """Left, top and side, px, of the square about the mask's box [H, W] grown by a factor; it may leave the image.

    Raises ValueError for an empty mask.
    """
    left, top, right, bottom = box_of(mask)
    side = max(1, round(max(bottom - top, right - left) * grow))
    return (left + right - side) // 2, (top + bottom - side) // 2, side


def crop(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], draw: CropDraw, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """uint8 RGB [size, size, 3] and the mask in it, bool [size, size], of an image [H, W, 3] and its mask [H, W]."""
    left, top, side = crop_window(mask, draw.grow)
    cut, inside = _window(image, left, top, side), _window(mask, left, top, side)
    if not draw.background:
        cut *= inside[..., None]
    mode = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    pixels = cv2.resize(cut, (size, size), interpolation=mode)
    share = cv2.resize(inside.astype(np.uint8) * np.uint8(255), (size, size), interpolation=mode)
    return np.asarray(pixels, np.uint8), np.asarray(share >= 128)


def crop_batch(crops: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_]]]) -> CropBatch:
    """Crops of one size as a batch."""
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in crops])).permute(0, 3, 1, 2).float() / 255
    return CropBatch(pixels, torch.from_numpy(np.stack([inside for _, inside in crops])))


def _window(values: NDArray[Any], left: int, top: int, side: int) -> NDArray[Any]:
    """The square of an array [H, W, ...], zero beyond it."""
    height, width = values.shape[:2]
    cut = np.zeros((side, side, *values.shape[2:]), values.dtype)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
    cut[y0 - top : y1 - top, x0 - left : x1 - left] = values[y0:y1, x0:x1]
    return cut
