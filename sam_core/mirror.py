"""Mirror images, left to right: where things are in them, and masks brought back from them.

The mirror image of an image is `image[:, ::-1]`: what is x px from the left in one is W - x px from it in the other.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sam_core.geometry import Frame
from sam_core.model.prompt_encoder import Prompts
from sam_core.windows import Box


def mirror_prompts(prompts: Prompts, width: int) -> Prompts:
    """Clicks and boxes, px of an image of this width, where they are in its mirror image; a text says the same there.

    Raises ValueError for mask logits, which lie in the frame of one window.
    """
    if prompts.mask_logits is not None:
        raise ValueError("mask logits of one window mean nothing in another")
    points, boxes = (None if part is None else part.clone() for part in (prompts.points, prompts.boxes))
    if points is not None:
        points[..., 0] = width - points[..., 0]
    if boxes is not None:
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return replace(prompts, points=points, boxes=boxes)


def mirror_window(window: Box, width: int) -> Box:
    """A window of an image of this width, in its mirror image."""
    x0, y0, x1, y1 = window
    return width - x1, y0, width - x0, y1


def mirror_logits(logits: Tensor, frame: Frame) -> Tensor:
    """Low-resolution logits [..., h, w] of a mirrored crop as those of the crop itself, whose frame has the same sizes.

    The crop ends within the padded square, perhaps between two cells, where neighbours are interpolated.
    """
    side = logits.shape[-1]
    cells = frame.input_size[1] * side / frame.image_size
    there = (cells - 1 - torch.arange(side, device=logits.device)).clamp(0, side - 1)
    left = there.floor().long()
    right = (left + 1).clamp(max=side - 1)
    return torch.lerp(logits[..., left], logits[..., right], there - left)
