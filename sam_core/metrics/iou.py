"""Intersection over union of masks, the measure under every other one here.

Two empty masks have IoU 0, as in pycocotools: nothing was there and nothing was found, which is no success to average.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

EXACT_FLOAT32 = 2**24  # above this many pixels a float32 sum of ones may round


def mask_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """IoU of aligned masks.

    Args:
        masks, truth: bool [..., H, W], leading dimensions broadcast against each other.

    Returns:
        float64 [...], in 0..1.

    Raises:
        ValueError: masks of different heights or widths, or not bool.
    """
    _check(masks, truth)
    overlap = mask_areas(masks & truth)
    union = mask_areas(masks) + mask_areas(truth) - overlap
    return overlap.double() / union.clamp(min=1)


def mask_areas(masks: Tensor) -> Tensor:
    """True pixels of bool [..., H, W]: int64 [...]."""
    if masks.device.type == "cpu":  # numpy counts bytes a dozen times faster than torch, which widens them first
        return torch.from_numpy(np.asarray(np.count_nonzero(masks.numpy(), axis=(-2, -1))))
    return masks.sum((-2, -1))


def iou_matrix(masks: Tensor, truth: Tensor) -> Tensor:
    """IoU of every mask with every true mask, by one matrix product.

    Args:
        masks: bool [N, H, W].
        truth: bool [M, H, W], same frame.

    Returns:
        float64 [N, M], in 0..1.

    Raises:
        ValueError: masks of different heights or widths, or not bool.
    """
    _check(masks, truth)
    dtype = torch.float32 if truth.shape[-2] * truth.shape[-1] <= EXACT_FLOAT32 else torch.float64
    ones, others = masks.flatten(1).to(dtype), truth.flatten(1).to(dtype)
    overlap = (ones @ others.T).double()
    union = ones.sum(1, dtype=torch.float64)[:, None] + others.sum(1, dtype=torch.float64) - overlap
    return overlap / union.clamp(min=1)


def _check(masks: Tensor, truth: Tensor) -> None:
    if masks.shape[-2:] != truth.shape[-2:]:
        raise ValueError(f"masks of {tuple(masks.shape[-2:])} px (h, w) against truth of {tuple(truth.shape[-2:])} px")
    if masks.dtype != torch.bool or truth.dtype != torch.bool:
        raise ValueError(f"masks must be bool, got {masks.dtype} and {truth.dtype}; threshold logits first")
