"""A class-agnostic object detector on the image embedding of a SAM, for the semi-automatic stage (paper, section 4).

The paper trains a Faster R-CNN with one class, "object", on the masks of its first stage. Here a dense head shares the
encoder's features: at stride 4 of the model input it says how likely a cell is the centre of an object, and how far the
object's box reaches to the left, top, right and bottom of the cell's middle. Centres are heat maps with the
penalty-reduced focal loss of CenterNet ("Objects as Points", Zhou et al. 2019, section 3); boxes are learned by their
IoU, as in UnitBox (Yu et al. 2016). The encoder is not trained: the embeddings are those that annotators use anyway.

Frame: px of the square model input. S: its side; g = S / 4 cells to a side; boxes are xyxy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sam_core.masks.nms import nms
from sam_core.model.image_encoder import ImageFeatures
from sam_core.presets import SamConfig
from sam_core.training.schedule import LearningRate

STRIDE = 4
_SIDES = 1.0, 1e4  # px that a box may reach from the middle of its cell, before it is clamped
_ALPHA, _BETA = 2, 4  # CenterNet's exponents
_PRIOR = 0.01  # share of cells that are taken for centres before training
_NMS_IOU = 0.6  # of two boxes, above which the less likely one is dropped


class Maps(NamedTuple):
    """What the head says of B images: centres [B, g, g] logits; sides [B, 4, g, g] px to left, top, right, bottom."""

    centres: Tensor
    sides: Tensor


class Found(NamedTuple):
    """Boxes of one image, best first: boxes float32 [K, 4] xyxy px of the model input, scores float32 [K] in 0..1."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Example:
    """One image to learn from: its features, of batch size 1, and boxes float32 [N, 4] xyxy, px of the model input."""

    features: ImageFeatures
    boxes: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """How the head is trained. images: of one step."""

    iterations: int = 300
    images: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    width: int = 48
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.iterations, self.images, self.width) < 1 or self.learning_rate <= 0 or self.weight_decay < 0:
            raise ValueError(f"detector: iterations, images, width and learning rate are positive, not {self}")
        if self.seed < 0:
            raise ValueError(f"detector: seed is {self.seed}; it must be 0 or more")
        if self.width % 8:
            raise ValueError(f"detector: width is {self.width}; it must be a multiple of 8")


class ObjectDetector(nn.Module):
    """The dense head.

    Args:
        embed_dim: channels of the embedding.
        fine_dims: channels of the encoder's fine features, from stride 8 to stride 4; () in the released models.
        width: channels of the head.
    """

    def __init__(self, embed_dim: int, fine_dims: tuple[int, ...] = (), *, width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(dim, width, 1) for dim in (embed_dim, *fine_dims))
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in self.lateral)
        self.trunk = nn.Sequential(
            *(
                layer
                for _ in range(3)
                for layer in (nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU())
            )
        )
        self.centres = nn.Conv2d(width, 1, 1)
        self.sides = nn.Conv2d(width, 4, 1)
        for layer, value in ((self.centres, -math.log((1 - _PRIOR) / _PRIOR)), (self.sides, math.log(8.0))):
            assert layer.bias is not None
            nn.init.constant_(layer.bias, value)

    def forward(self, features: ImageFeatures) -> Maps:
        """Features of B images -> maps."""
        levels = zip((features.embedding, *features.fine), self.lateral, self.norms, strict=True)
        narrowed = [norm(lateral(level)) for level, lateral, norm in levels]
        height, width = (side * 16 // STRIDE for side in features.embedding.shape[-2:])
        summed = sum((_resized(level, height, width) for level in narrowed), torch.zeros(()))
        x = self.trunk(summed)
        return Maps(self.centres(x)[:, 0], self.sides(x).exp().clamp(*_SIDES))


def detector_for(config: SamConfig, *, width: int) -> ObjectDetector:
    """An untrained head for the features of a model."""
    dim = config.image_encoder.out_chans
    return ObjectDetector(dim, (dim // 4, dim // 8) if config.image_encoder.stem == "conv" else (), width=width)


def fit(detector: ObjectDetector, examples: Sequence[Example], config: FitConfig) -> list[float]:
    """Train the head in place; the same examples and seed give the same weights. The loss of every step.

    Raises ValueError when there is no example, or none with a box.
    """
    if not any(len(example.boxes) for example in examples):
        raise ValueError("no object to train the detector on: no example has a box")
    rng = np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(detector.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    rate = LearningRate(base=config.learning_rate, warmup=config.iterations // 20, iterations=config.iterations)
    detector.train()
    losses = []
    for step in range(config.iterations):
        chosen = [examples[i] for i in rng.integers(0, len(examples), config.images)]
        for group in optimizer.param_groups:
            group["lr"] = rate.at(step)
        loss = detection_loss(detector(_stacked(chosen)), [example.boxes for example in chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    detector.eval()
    return losses


def detection_loss(maps: Maps, boxes: Sequence[Tensor]) -> Tensor:
    """Focal loss of the centres plus 1 - IoU of the boxes at them, both per object; boxes [N, 4] for each image."""
    grid = maps.centres.shape[-1]
    targets = [centre_targets(each, grid) for each in boxes]
    focal = _focal(maps.centres, torch.stack([target.heat for target in targets]))
    overlaps = [
        1 - _iou_of_sides(maps.sides[image][:, target.rows, target.columns], target.sides)
        for image, target in enumerate(targets)
    ]
    return (focal + torch.cat(overlaps).sum()) / max(1, sum(map(len, boxes)))


class Targets(NamedTuple):
    """heat [g, g], 1 at the cells of centres and falling around them; for the N' centre cells rows, columns and
    sides [4, N'] in px. Of objects with the same cell the smallest counts."""

    heat: Tensor
    rows: Tensor
    columns: Tensor
    sides: Tensor


def centre_targets(boxes: Tensor, grid: int) -> Targets:
    """What the maps of an image shall say; boxes [N, 4] xyxy px, grid: cells to a side."""
    sizes = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1.0)
    order = sizes.prod(1).argsort(descending=True)
    boxes, sizes = boxes[order], sizes[order]
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    cells = (middles / STRIDE).long().clamp(0, grid - 1)
    heat = torch.zeros(grid, grid)
    axis = torch.arange(grid)
    for cell, size in zip(cells, sizes / STRIDE, strict=True):
        # A sixth of the box, as CenterNet spreads its Gaussians, but never less than a third of a cell.
        spread = (size / 6).clamp(min=1 / 3)
        x, y = (torch.exp(-((axis - centre) ** 2) / (2 * width**2)) for centre, width in zip(cell, spread, strict=True))
        heat = torch.maximum(heat, y[:, None] * x[None])
    last = {tuple(cell): index for index, cell in enumerate(cells.tolist())}
    kept = torch.tensor(sorted(last.values()), dtype=torch.int64)
    columns, rows = cells[kept].unbind(1)
    middle = (cells[kept] + 0.5) * STRIDE
    sides = torch.cat([middle - boxes[kept, :2], boxes[kept, 2:] - middle], 1).clamp(min=_SIDES[0])
    return Targets(heat, rows, columns, sides.T)


@torch.inference_mode()
def detect(
    detector: ObjectDetector,
    features: ImageFeatures,
    input_size: tuple[int, int],
    *,
    limit: int = 300,
    least: float = 0.05,
) -> Found:
    """Objects of one image: local maxima of the centre map, with their boxes, without duplicates.

    Args:
        features: of one image.
        input_size: (height, width) px of the image in the model input; what lies beyond is padding.
        limit: most boxes.
        least: score that a box has at least.
    """
    maps = detector(features)
    heat = maps.centres[0].sigmoid()
    peaks = (heat == F.max_pool2d(heat[None], 3, stride=1, padding=1)[0]) & (heat >= least)
    rows, columns = (math.ceil(side / STRIDE) for side in input_size)
    peaks[rows:], peaks[:, columns:] = False, False
    y, x = peaks.nonzero(as_tuple=True)
    scores, order = heat[y, x].sort(descending=True, stable=True)
    y, x = y[order[:limit]], x[order[:limit]]
    middle = torch.stack([x, y], 1).add(0.5) * STRIDE
    sides = maps.sides[0][:, y, x].T
    boxes = torch.cat([middle - sides[:, :2], middle + sides[:, 2:]], 1)
    height, width = input_size
    inside = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height])).cpu().numpy()
    likely = scores[:limit].cpu().numpy()
    kept = nms(inside, likely, threshold=_NMS_IOU)
    return Found(inside[kept], likely[kept])


def _stacked(examples: Sequence[Example]) -> ImageFeatures:
    """The features of several images as one batch."""
    fine = zip(*(example.features.fine for example in examples), strict=True)
    embedding = torch.cat([example.features.embedding for example in examples])
    return ImageFeatures(embedding, tuple(torch.cat(level) for level in fine))


def _resized(level: Tensor, height: int, width: int) -> Tensor:
    if level.shape[-2:] == (height, width):
        return level
    return F.interpolate(level, (height, width), mode="bilinear", align_corners=False)


def _focal(logits: Tensor, heat: Tensor) -> Tensor:
    """CenterNet's loss, summed over cells: [B, g, g] logits against heat."""
    probability = torch.sigmoid(logits)
    hits = (1 - probability) ** _ALPHA * F.logsigmoid(logits)
    misses = (1 - heat) ** _BETA * probability**_ALPHA * F.logsigmoid(-logits)
    return -torch.where(heat == 1, hits, misses).sum()


def _iou_of_sides(sides: Tensor, truth: Tensor) -> Tensor:
    """IoU [N] of boxes around one middle, given by their sides [4, N]: left, top, right, bottom."""
    shared, found, wanted = (
        (each[0] + each[2]) * (each[1] + each[3]) for each in (torch.minimum(sides, truth), sides, truth)
    )
    return shared / (found + wanted - shared)
