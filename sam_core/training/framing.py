"""How a photograph and its masks become a training sample: large-scale jitter, mirror, crop, and which masks.

Large-scale jitter (Ghiasi et al. 2021, "Simple Copy-Paste", section 3): the longest side becomes the input's times a
random factor; what is too large is cropped at a random place, what is too small padded below and on the right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.training.centres import draw_centres
from sam_core.training.config import TrainConfig
from sam_core.training.targets import TrainBatch, is_seen
from sam_core.windows import Box, box_of, inside, window_around

Mask = NDArray[np.bool_]
TRIES = 8
"""Crops tried until one shows a mask; after that the whole image is taken."""


@dataclass(frozen=True, slots=True)
class Framing:
    """Where the sample is cut out of a resized image.

    resized: (height, width) of the whole image, px. top, left: of the cut, px of the resized image. size: (height,
    width) of the cut, at most the input's side. mirror: flip the cut left to right.
    """

    resized: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]
    mirror: bool


def draw_framing(height: int, width: int, config: TrainConfig, rng: np.random.Generator) -> Framing:
    """A random framing of an image of this size by the configuration's jitter and flip."""
    low, high = config.jitter
    scale = config.image_size * float(rng.uniform(low, high)) / max(height, width)
    resized = (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
    size = (min(resized[0], config.image_size), min(resized[1], config.image_size))
    top, left = (int(rng.integers(0, whole - cut + 1)) for whole, cut in zip(resized, size, strict=True))
    return Framing(resized, top, left, size, bool(rng.random() < config.flip))


def whole_framing(height: int, width: int, side: int) -> Framing:
    """The whole image, as the model sees it after training."""
    scale = side / max(height, width)
    resized = (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5)))
    return Framing(resized, 0, 0, resized, False)


def frame_image(image: NDArray[np.uint8], framing: Framing, side: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] -> uint8 [side, side, 3], zero beyond the framed picture."""
    shrinks = framing.resized[0] < image.shape[0]
    resized = cv2.resize(image, framing.resized[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[: framing.size[0], : framing.size[1]] = _cut(resized, framing)
    return canvas


def frame_mask(mask: Mask, framing: Framing, side: int) -> Mask:
    """bool [H, W] -> bool [side, side]: a pixel is true where most of it was."""
    shrinks = framing.resized[0] < mask.shape[0]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(mask.astype(np.uint8) * np.uint8(255), framing.resized[::-1], interpolation=mode)
    canvas = np.zeros((side, side), bool)
    canvas[: framing.size[0], : framing.size[1]] = _cut(resized, framing) >= 128
    return canvas


def photo_batch(
    image: NDArray[np.uint8],
    masks: list[Callable[[], Mask]],
    config: TrainConfig,
    rng: np.random.Generator,
    number: int,
    *,
    texts: Sequence[NDArray[np.float16]] | None = None,
) -> TrainBatch | None:
    """One photograph as a batch of one image, with at least one mask.

    Args:
        image: uint8 RGB [H, W, 3].
        masks: each gives one mask, bool [H, W]; called only for those that are tried.
        config: size, jitter, most masks, and which masks are left out.
        rng: decides framing and masks.
        number: of the image in the run.
        texts: for each mask CLIP embeddings of its crop [D, W], one of which is drawn.

    Returns:
        The batch; None when the image has no mask that the configuration admits.
    """
    order = rng.permutation(len(masks))
    if config.window_share and len(masks) and rng.random() < config.window_share:
        image, masks = _zoomed(image, masks, masks[order[0]]())
    height, width = image.shape[:2]
    for attempt in range(TRIES + 1):
        whole = attempt == TRIES
        framing = whole_framing(height, width, config.image_size) if whole else draw_framing(height, width, config, rng)
        admitted = _admitted(masks, order, framing, config)
        if admitted:
            chosen, framed = zip(*admitted, strict=True)
            pixels, stacked = frame_image(image, framing, config.image_size), np.stack(framed)
            return TrainBatch(
                images=torch.from_numpy(pixels)[None],
                sizes=torch.tensor([framing.size]),
                masks=torch.from_numpy(stacked),
                image_of=torch.zeros(len(framed), dtype=torch.int64),
                numbers=torch.tensor([number]),
                text=None if texts is None else _drawn([texts[i] for i in chosen], rng),
                centres=torch.from_numpy(draw_centres(stacked, rng)) if config.centre_share else None,
            )
    return None


def _zoomed(
    image: NDArray[np.uint8], masks: list[Callable[[], Mask]], shown: Mask
) -> tuple[NDArray[np.uint8], list[Callable[[], Mask]]]:
    """The window around one mask as an image of its own, and what is seen of the masks."""
    if not shown.any():
        return image, masks
    window = window_around(image.shape[:2], box_of(shown))
    return inside(image, window), [partial(_seen, read, window) for read in masks]


def _seen(read: Callable[[], Mask], window: Box) -> Mask:
    return inside(read(), window)


def _drawn(texts: Sequence[NDArray[np.float16]], rng: np.random.Generator) -> torch.Tensor:
    """One of each mask's embeddings [D, W]: float32 [N, W]."""
    rows = [embeddings[int(rng.integers(len(embeddings)))] for embeddings in texts]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _admitted(
    masks: list[Callable[[], Mask]], order: NDArray[np.intp], framing: Framing, config: TrainConfig
) -> list[tuple[int, Mask]]:
    """The first masks in that order, framed, with their places in the list, that cover neither too little of the sample
    nor too much of their image, and are seen at the size that models predict."""
    kept: list[tuple[int, Mask]] = []
    for place in order.tolist():
        mask = masks[place]()
        if np.count_nonzero(mask) / mask.size <= config.max_mask_share:
            framed = frame_mask(mask, framing, config.image_size)
            if framed.sum() >= max(1, config.min_area) and is_seen(framed):
                kept.append((place, framed))
        if len(kept) == config.masks_per_image:
            break
    return kept


def _cut(resized: NDArray[np.uint8], framing: Framing) -> NDArray[np.uint8]:
    (height, width), top, left = framing.size, framing.top, framing.left
    cut = resized[top : top + height, left : left + width]
    return cut[:, ::-1] if framing.mirror else cut
