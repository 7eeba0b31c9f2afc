"""Masks as CLIP sees them: the crop around each, seen only where the mask is, and how near it is to each phrase.

A crop is the square around the mask's box, grown by the middle of what training draws from (1x to 2x; Kirillov et al.
2023, section D.5), with what lies around the object in it; CLIP's last layer attends to the object alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.clip import Clip
from sam_core.masks import rle

GROWTH = 1.5
CROPS_AT_ONCE = 64
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def embed_masks(clip: Clip, image: Image, rles: Sequence[bytes]) -> Tensor:
    """CLIP's embeddings of masks of an image: float32 [N, width], rows of length 1, on the CPU.

    image: uint8 RGB [H, W, 3]. rles: COCO compressed counts over that image. Raises ValueError for an empty mask.
    """
    vectors = [torch.zeros(0, clip.width)]
    for start in range(0, len(rles), CROPS_AT_ONCE):
        masks = [rle.decode(counts, (image.shape[0], image.shape[1])) for counts in rles[start : start + CROPS_AT_ONCE]]
        crops, inside = zip(*(object_crop(image, mask, clip.image_size) for mask in masks), strict=True)
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
        vectors.append(clip.embed_images(pixels, torch.from_numpy(np.stack(inside))).float().cpu())
    return torch.cat(vectors)


def object_crop(image: Image, mask: Mask, side: int, *, growth: float = GROWTH) -> tuple[Image, Mask]:
    """The square around a mask, uint8 RGB [side, side, 3], black beyond the image, and the mask in it.

    A pixel of the crop is in the mask when any of what it covers is. Raises ValueError for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError("an empty mask shows nothing to CLIP")
    length = max(int(np.ptp(rows)), int(np.ptp(columns))) + 1
    square = max(1, round(growth * length))
    top = (int(rows[0]) + int(rows[-1]) + 1 - square) // 2
    left = (int(columns[0]) + int(columns[-1]) + 1 - square) // 2
    shrinking = cv2.INTER_AREA if square >= side else cv2.INTER_LINEAR
    pixels = cv2.resize(_window(image, top, left, square), (side, side), interpolation=shrinking)
    covered = cv2.resize(_window(mask, top, left, square).astype(np.float32), (side, side), interpolation=shrinking)
    return np.asarray(pixels, np.uint8), covered > 0


def nearness(crops: Tensor, phrases: Tensor) -> Tensor:
    """Cosines of unit vectors: crops [N, C], phrases [P, C] -> [N, P]."""
    return crops @ phrases.T


def _window(pixels: NDArray[np.generic], top: int, left: int, side: int) -> NDArray[np.generic]:
    """A square of an array [H, W, ...], zero where it leaves it."""
    window = np.zeros((side, side, *pixels.shape[2:]), pixels.dtype)
    height, width = pixels.shape[:2]
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, height), min(left + side, width)
    window[y0 - top : y1 - top, x0 - left : x1 - left] = pixels[y0:y1, x0:x1]
    return window
