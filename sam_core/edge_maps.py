"""Edges of an image from the masks of a grid of points: zero-shot edge detection (paper §7.2, §D.2).

    points -> masks -> NMS -> Sobel of each mask's probabilities, at its border only -> maximum -> 0..1 -> edge NMS

What the paper leaves open: "outer boundary pixels" are taken as the pixels on both sides of a mask's border, since the
slope of the probabilities peaks between them; the border of the image is none. Edge NMS keeps the ridges of the map: a
pixel stays when it is no weaker than its two neighbours in the direction in which the map changes most around it.
Ridges fade over the last pixels before the image's border, as edge detectors commonly have it in this benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import Frame
from sam_core.masks import kernels, plain
from sam_core.masks.crops import crop_plan
from sam_core.masks.nms import nms
from sam_core.model.sam import Sam
from sam_core.predict import encode
from sam_core.prompting import AbsorbedPrompter
from sam_core.recipes import Recipe, edges

POINTS_AT_ONCE = 32
FRAME = 5
"""Pixels over which ridges fade towards the image's border, where masks end because the picture does."""

_SMOOTHING = 2.0
"""Standard deviation, px, of the neighbourhood in which the direction across a ridge is looked for."""

Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DrawnMasks:
    """Masks of a whole image at low resolution: logits float [N, h, w] and the frame that they lie in."""

    logits: Tensor
    frame: Frame

    def __len__(self) -> int:
        return len(self.logits)


def edge_map(sam: Sam, image: NDArray[np.uint8], recipe: Recipe | None = None) -> Map:
    """Thinned edge strength float32 [H, W] in 0..1 of a uint8 RGB image [H, W, 3], by the `edges` recipe."""
    return edge_nms(strength(masks_of_grid(sam, image, recipe or edges())))


def masks_of_grid(sam: Sam, image: NDArray[np.uint8], recipe: Recipe) -> DrawnMasks:
    """All masks of the recipe's grid over the whole image that box NMS leaves, nothing else filtered."""
    with torch.inference_mode():
        embedding = encode(sam, [image])
        frame, prompter = embedding.frames[0], AbsorbedPrompter(sam, embedding)
        (crop,) = crop_plan(frame.original_size, recipe)
        answers = [
            prompter.ask(crop.points[i : i + POINTS_AT_ONCE]) for i in range(0, len(crop.points), POINTS_AT_ONCE)
        ]
        logits = torch.cat([answer.draw(np.ones(answer.iou.shape, np.bool_)).float() for answer in answers])
        measure = kernels.measure if sam.device.type == "cpu" else plain.measure
        found = measure(logits, frame, offset=recipe.stability_offset)
        iou = np.concatenate([answer.iou.ravel() for answer in answers])
        there = np.flatnonzero(found.areas)
        kept = there[nms(found.boxes[there], iou[there], threshold=recipe.nms_iou)]
        return DrawnMasks(logits[torch.from_numpy(kept).to(logits.device)], frame)


def strength(masks: DrawnMasks) -> Map:
    """The strongest slope of any mask's probabilities at that mask's border: float32 [H, W], largest value 1."""
    found = np.zeros(masks.frame.original_size, np.float32)
    for few in plain.at_crop_size(masks.logits, masks.frame):
        for probability in few.sigmoid().cpu().numpy():
            np.maximum(found, border_slope(probability), out=found)
    return found / max(float(found.max()), 1e-12)


def border_slope(probability: Map) -> Map:
    """Sobel magnitude of probabilities [H, W] on the pixels at both sides of the border of the mask above 0.5."""
    slope: Map = cv2.magnitude(
        cv2.Sobel(probability, cv2.CV_32F, 1, 0, borderType=cv2.BORDER_REPLICATE),
        cv2.Sobel(probability, cv2.CV_32F, 0, 1, borderType=cv2.BORDER_REPLICATE),
    )
    inside = (probability > 0.5).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    # The default border of both is neutral, so the image's border is not one of the mask.
    at_border = cv2.dilate(inside, cross) != cv2.erode(inside, cross)
    slope[~at_border] = 0
    return slope


def edge_nms(edges: Map) -> Map:
    """The ridges of an edge map float32 [H, W], everything else 0."""
    if min(edges.shape) < 3:  # all of it is border, and a line of pixels has no gradient across
        return np.zeros_like(edges)
    across = _steepest_direction(edges)
    dx, dy = np.cos(across).astype(np.float32), np.sin(across).astype(np.float32)
    y, x = np.indices(edges.shape, np.float32)
    ahead = cv2.remap(edges, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    behind = cv2.remap(edges, x - dx, y - dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    ridges = np.where((edges >= ahead) & (edges >= behind), edges, 0)
    return (ridges * _fade(edges.shape)).astype(np.float32)


def _fade(size: tuple[int, ...]) -> Map:
    """0 at the border of an image of this size, rising to 1 over FRAME px."""
    down, across = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in size)
    return (np.minimum(np.minimum(down[:, None], across), FRAME) / FRAME).astype(np.float32)


def _steepest_direction(edges: Map) -> Map:
    """Angle, x to y, along which a map changes most around each pixel: main axis of its structure tensor."""
    gy, gx = np.gradient(cv2.GaussianBlur(edges, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT))
    xx, xy, yy = (
        cv2.GaussianBlur(product, (0, 0), _SMOOTHING, borderType=cv2.BORDER_REFLECT)
        for product in (gx * gx, gx * gy, gy * gy)
    )
    angle: Map = 0.5 * np.arctan2(2 * xy, xx - yy)
    return angle
