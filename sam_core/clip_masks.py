"""Masks as CLIP sees them when nothing is drawn at random, and how near each is to each phrase.

A mask's crop is grown by the middle of what training draws from (`clip_crops`), with what lies around the object in it;
CLIP's last layer attends to the object alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.clip import Clip
from sam_core.clip_crops import CropDraw, crop, crop_batch
from sam_core.masks import rle

AS_SEEN = CropDraw(grow=1.5, background=True)
CROPS_AT_ONCE = 64


def embed_masks(clip: Clip, image: NDArray[np.uint8], rles: Sequence[bytes]) -> Tensor:
    """CLIP's embeddings of masks of an image: float32 [N, width], rows of length 1, on the CPU.

    image: uint8 RGB [H, W, 3]. rles: COCO compressed counts over that image. Raises ValueError for an empty mask.
    """
    size = (image.shape[0], image.shape[1])
    vectors = [torch.zeros(0, clip.width)]
    for start in range(0, len(rles), CROPS_AT_ONCE):
        masks = (rle.decode(counts, size) for counts in rles[start : start + CROPS_AT_ONCE])
        batch = crop_batch([crop(image, mask, AS_SEEN, clip.image_size) for mask in masks])
        vectors.append(clip.embed_images(batch.pixels, batch.inside).float().cpu())
    return torch.cat(vectors)


def nearness(crops: Tensor, phrases: Tensor) -> Tensor:
    """Cosines of unit vectors: crops [N, C], phrases [P, C] -> [P, N]."""
    return phrases @ crops.T
