"""From low-resolution logits to numbers and run-lengths, the readable way: bring a mask to full size and look at it."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sam_core.geometry import Frame, masks_at_once, uncrop, upscale_logits
from sam_core.masks import rle
from sam_core.masks.boxes import tight_boxes
from sam_core.masks.candidates import Measures, object_column
from sam_core.masks.stability import stability_scores

MASKS_AT_ONCE = 16
"""Masks held at full size at any time, of large pictures fewer; the released code holds a whole batch of 192."""


def measure(logits: Tensor, frame: Frame, *, offset: float) -> Measures:
    """Measures of the masks above 0 of low-resolution logits [K, h, w]; stability for thresholds -offset and offset."""
    parts = [_measure_full(full, frame, offset=offset) for full in at_crop_size(logits, frame)]
    return Measures(
        stability_score=np.concatenate([np.empty(0, np.float32), *(part.stability_score for part in parts)]),
        areas=np.concatenate([np.empty(0, np.int64), *(part.areas for part in parts)]),
        boxes=np.concatenate([np.empty((0, 4), np.int64), *(part.boxes for part in parts)]),
        runs=np.concatenate([np.empty(0, np.object_), *(part.runs for part in parts)]),
    )


def at_crop_size(logits: Tensor, frame: Frame) -> Iterator[Tensor]:
    """Logits [K, h, w] as float [k, crop height, crop width], a few masks at a time."""
    step = masks_at_once(frame.crop_size, MASKS_AT_ONCE)
    for start in range(0, len(logits), step):
        yield upscale_logits(logits[start : start + step, None], frame)[:, 0]


def _measure_full(logits: Tensor, frame: Frame, *, offset: float) -> Measures:
    """Measures of logits [K, crop height, crop width]."""
    masks = logits > 0
    x0, y0 = frame.crop_box[:2]
    return Measures(
        stability_score=stability_scores(logits, offset=offset).cpu().numpy(),
        areas=torch.count_nonzero(masks, dim=(1, 2)).cpu().numpy(),
        boxes=tight_boxes(masks).cpu().numpy() + np.array([x0, y0, x0, y0]),
        runs=object_column([rle.run_lengths(uncrop(mask, frame)) for mask in masks.cpu().numpy()]),
    )
