"""Prediction without hidden state: images to embeddings, embeddings and prompts to masks.

Sizes and frames travel with the data, so any number of images can be in use at once, in any order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import Frame, boxes_to_input, check_image, frame_of, model_input, points_to_input
from sam_core.masks.batch import MaskBatch
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.prompt_encoder import BACKGROUND, FOREGROUND, NOT_A_POINT, Prompts
from sam_core.model.sam import Sam
from sam_core.windows import Box

__all__ = ["ImageEmbedding", "Look", "Prompts", "decode", "encode", "look_at"]


@dataclass(frozen=True, slots=True)
class ImageEmbedding:
    """Encoded images or crops, one frame each."""

    features: ImageFeatures
    frames: tuple[Frame, ...]

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.features.embedding):
            raise ValueError(f"{len(self.features.embedding)} embedded images have {len(self.frames)} frames")

    def __len__(self) -> int:
        return len(self.frames)


@torch.no_grad()
def encode(
    sam: Sam,
    images: Sequence[NDArray[np.uint8]],
    *,
    crop_boxes: Sequence[tuple[int, int, int, int]] | None = None,
    encoder: Callable[[Tensor], ImageFeatures] | None = None,
) -> ImageEmbedding:
    """Encodes a batch of images, or one crop of each.

    images: uint8 RGB [H, W, 3], of any sizes. crop_boxes: x0, y0, x1, y1 in the original frame, end exclusive, one per
    image; repeat an image to take several crops of it. encoder: another way to compute what the model's own does.
    Raises ValueError for anything else.
    """
    if not len(images):
        raise ValueError("there is no image to encode")
    for image in images:
        check_image(image)
    boxes = [None] * len(images) if crop_boxes is None else crop_boxes
    if len(boxes) != len(images):
        raise ValueError(f"{len(images)} images need as many crop boxes, not {len(boxes)}")
    side = sam.config.image_size
    frames = [frame_of(x.shape[:2], image_size=side, crop_box=box) for x, box in zip(images, boxes, strict=True)]
    inputs = [model_input(x, frame, sam.pixel_mean, sam.pixel_std) for x, frame in zip(images, frames, strict=True)]
    return ImageEmbedding((encoder or sam.image_encoder)(torch.stack(inputs)), tuple(frames))


Look = Callable[[Box], ImageEmbedding]
"""The embedding of a window of one image."""


def look_at(sam: Sam, image: NDArray[np.uint8]) -> Look:
    """Encodes windows of an image, uint8 RGB [H, W, 3], when they are looked at."""
    return lambda window: encode(sam, [image], crop_boxes=[window])


@torch.no_grad()
def decode(
    sam: Sam, embedding: ImageEmbedding, prompts: Prompts, *, image: int = 0, multimask: bool = True
) -> MaskBatch:
    """Masks for N prompts on one image of the embedding.

    prompts: coordinates in the original frame, also on a crop. multimask: three masks per prompt, for ambiguous ones
    such as a single click, rather than one. Raises ValueError for prompts that do not fit the model.
    """
    if not 0 <= image < len(embedding):
        raise ValueError(f"there is no image {image} in an embedding of {len(embedding)}")
    frame = embedding.frames[image]
    features = embedding.features.take(slice(image, image + 1))
    logits, iou = sam.decode(features, _to_input(prompts, frame, sam), multimask=multimask)
    return MaskBatch(logits, iou, frame)


def _to_input(prompts: Prompts, frame: Frame, sam: Sam) -> Prompts:
    """The prompts on the model's device, coordinates in the frame of the model input."""
    require_places(prompts)  # all before they go to a device, which would be waited for
    _require_labels(prompts.labels)
    _require_mask_size(prompts.mask_logits, sam.config.low_res_size)
    points, labels, boxes, mask_logits, text = (
        None if part is None else part.to(sam.device)
        for part in (prompts.points, prompts.labels, prompts.boxes, prompts.mask_logits, prompts.text)
    )
    return Prompts(
        points=None if points is None else points_to_input(points, frame),
        labels=labels,
        boxes=None if boxes is None else boxes_to_input(boxes, frame),
        mask_logits=None if mask_logits is None else mask_logits.to(sam.pixel_mean.dtype),
        text=text,
    )


def require_places(prompts: Prompts) -> None:
    """Raises ValueError for coordinates that are none. Outside of the image is a place, as for the released code."""
    boxes = prompts.boxes
    if not all(places.isfinite().all() for places in (prompts.points, boxes) if places is not None):
        raise ValueError("coordinates of a prompt must be finite numbers")
    if boxes is not None and not (boxes[:, :2] <= boxes[:, 2:]).all():
        raise ValueError("boxes of a prompt are x0, y0, x1, y1, with x0 <= x1 and y0 <= y1")


def _require_labels(labels: Tensor | None) -> None:
    if labels is None:
        return
    if not ((labels == FOREGROUND) | (labels == BACKGROUND) | (labels == NOT_A_POINT)).all():
        raise ValueError("labels of points are 1 (foreground), 0 (background) and -1 (padding)")


def _require_mask_size(mask_logits: Tensor | None, side: int) -> None:
    if mask_logits is not None and mask_logits.shape[2:] != (side, side):
        raise ValueError(f"mask logits for this model are {side}x{side}, not {list(mask_logits.shape[2:])}")
