"""Intersection over union of masks, the measure under every other one here.

Two empty masks have IoU 0, as in pycocotools: nothing was there and nothing was found, which is no success to average.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from sam_core.masks.rle import decompress_all


def mask_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """IoU of aligned masks.

    Args:
        masks, truth: bool [..., H, W], leading dimensions broadcast against each other.

    Returns:
        float64 [...], in 0..1.

    Raises:
        ValueError: masks of different heights or widths, or not bool.
    """
    if masks.shape[-2:] != truth.shape[-2:]:
        raise ValueError(f"masks of {tuple(masks.shape[-2:])} px (h, w) against truth of {tuple(truth.shape[-2:])} px")
    if masks.dtype != torch.bool or truth.dtype != torch.bool:
        raise ValueError(f"masks must be bool, got {masks.dtype} and {truth.dtype}; threshold logits first")
    overlap = mask_areas(masks & truth)
    union = mask_areas(masks) + mask_areas(truth) - overlap
    return overlap.double() / union.clamp(min=1)


def mask_areas(masks: Tensor) -> Tensor:
    """True pixels of bool [..., H, W]: int64 [...]."""
    if masks.device.type == "cpu":  # numpy counts bytes a dozen times faster than torch, which widens them first
        return torch.from_numpy(np.asarray(np.count_nonzero(masks.numpy(), axis=(-2, -1))))
    return masks.sum((-2, -1))


def iou_matrix(
    masks: Sequence[bytes], truth: Sequence[bytes], size: tuple[int, int], *, crowd: Sequence[bool] | None = None
) -> NDArray[np.float64]:
    """IoU of every mask with every true mask, from run lengths alone: of many large masks pixels would fill the memory.

    Args:
        masks, truth: COCO compressed counts of N and M masks of one image.
        size: its height and width, px.
        crowd: which true masks are crowds, of which a mask covers what share of itself lies in them; none if not given.

    Returns:
        float64 [N, M], in 0..1.

    Raises:
        ValueError: counts of no mask of that size.
    """
    decompress_all([*masks, *truth], size)  # else pycocotools never ends, or writes where it may not
    found, true = ([{"size": list(size), "counts": counts} for counts in rles] for rles in (masks, truth))
    crowds = [int(each) for each in crowd] if crowd is not None else [0] * len(true)
    return np.asarray(coco_mask.iou(found, true, crowds), np.float64).reshape(len(found), len(true))
