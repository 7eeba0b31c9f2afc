"""What one training step sees: images, and masks chosen among an image's objects and parts."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

STEP = 4
"""Pixels of the input along the side of one that models predict."""


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """B images and N masks of them, model input frame.

    images: [B, S, S, 3] uint8 RGB. sizes: [B, 2] int64 (height, width) before padding at the right and bottom.
    masks: [N, S, S] bool, none empty. image_of: [N] int64, the image of each mask, never falling.
    numbers: [B] int64, each image's number in the run, which decides everything that is drawn at random for it.
    text: [N, W] float32, the CLIP embedding of each mask's crop, rows of length 1; None where no prompt is a text.
    centres: [N, 2] float32, a pixel (x, y) deep inside each mask; None where no first point needs one.
    """

    images: Tensor
    sizes: Tensor
    masks: Tensor
    image_of: Tensor
    numbers: Tensor
    text: Tensor | None = None
    centres: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.masks) != len(self.image_of):
            raise ValueError(f"{len(self.masks)} masks but {len(self.image_of)} image indices")
        if self.text is not None and len(self.text) != len(self.masks):
            raise ValueError(f"{len(self.masks)} masks but {len(self.text)} embeddings")
        if len(self.images) != len(self.numbers):
            raise ValueError(f"{len(self.images)} images but {len(self.numbers)} numbers")
        if self.masks.shape[1:] != self.images.shape[1:3]:
            raise ValueError(
                f"masks of {tuple(self.masks.shape[1:])} px on images of {tuple(self.images.shape[1:3])} px"
            )

    def to(self, device: torch.device | str) -> TrainBatch:
        """The same batch on another device."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return TrainBatch(
            images=moved(self.images),
            sizes=moved(self.sizes),
            masks=moved(self.masks),
            image_of=moved(self.image_of),
            numbers=self.numbers,
            text=None if self.text is None else moved(self.text),
            centres=None if self.centres is None else moved(self.centres),
        )


def normalised(batch: TrainBatch, mean: Tensor, std: Tensor) -> Tensor:
    """Model input [B, 3, S, S] float32 of a batch: normalised, THEN zero beyond each image's size.

    Args:
        batch: uint8 images.
        mean, std: [3, 1, 1] in 0..255.
    """
    pixels = (batch.images.permute(0, 3, 1, 2).float() - mean) / std
    return pixels * shown(batch)[:, None]


def shown(batch: TrainBatch) -> Tensor:
    """bool [B, S, S]: what of the model input is image, and no padding."""
    side = torch.arange(batch.images.shape[1], device=batch.images.device)
    rows, columns = (side < batch.sizes[:, axis, None] for axis in (0, 1))
    return rows[:, :, None] & columns[:, None, :]


def is_seen(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask bool [S, S] of the input has a pixel left at the size that models predict, S / 4: one that it
    covers by more than a half. What has none is no mask that any prediction could meet."""
    side = len(mask) // STEP
    pixels = cv2.resize(mask.astype(np.uint8) * np.uint8(STEP**2), (side, side), interpolation=cv2.INTER_AREA)
    return bool(pixels.max() > STEP**2 // 2)


def averaged(masks: Tensor, size: int) -> Tensor:
    """Area average of masks [N, S, S] bool to [N, size, size] float32: the share of each coarse pixel that is true."""
    step = masks.shape[-1] // size
    return F.avg_pool2d(masks[:, None].float(), step)[:, 0]


@dataclass(frozen=True, slots=True)
class Truth:
    """N true masks as losses want them.

    averaged: [N, h, w] float32 in 0..1, at the mask term's resolution, the logits' or a multiple of it. masks: bool
    [N, S, S]. shown: bool [N, S, S], what is image.
    """

    averaged: Tensor
    masks: Tensor
    shown: Tensor


def truth_of(batch: TrainBatch, size: int) -> Truth:
    """The true masks of a batch for a mask term of [..., size, size]."""
    return Truth(averaged(batch.masks, size), batch.masks, shown(batch)[batch.image_of])


def merge(batches: list[TrainBatch]) -> TrainBatch:
    """One batch of several; image indices shifted."""
    starts = torch.tensor([0, *(len(batch.images) for batch in batches)]).cumsum(0)
    return TrainBatch(
        images=torch.cat([batch.images for batch in batches]),
        sizes=torch.cat([batch.sizes for batch in batches]),
        masks=torch.cat([batch.masks for batch in batches]),
        image_of=torch.cat([batch.image_of + start for batch, start in zip(batches, starts, strict=False)]),
        numbers=torch.cat([batch.numbers for batch in batches]),
        text=_merged([batch.text for batch in batches], "text embeddings"),
        centres=_merged([batch.centres for batch in batches], "centres"),
    )


def _merged(tensors: list[Tensor | None], what: str) -> Tensor | None:
    """All or none of the batches have them."""
    given = [tensor for tensor in tensors if tensor is not None]
    if len(given) not in (0, len(tensors)):
        raise ValueError(f"some batches have {what} and some have none")
    return torch.cat(given) if given else None
