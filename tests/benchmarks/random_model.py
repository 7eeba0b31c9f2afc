"""Models for benchmarks without trained weights: random ones that have learned nothing but to draw near a click.

    python -m tests.benchmarks.random_model --preset vit_b --image FILE --seed 0 --out FILE

How long the generator takes depends on what it finds. A fresh model draws much the same noise over the whole image for
every click, and hardly a mask survives. So the mask decoder of a random model is taught for a minute to draw regions
around clicks, with outlines that follow the random embedding; then predicted IoU and sharpness are scaled such that
as many candidates pass as with the released models. Encoder and decoder do all of their work; the masks mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from sam_core.masks.crops import point_grid
from sam_core.model.checkpoint import save_model
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.layers import MLP
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, decode, encode
from sam_core.presets import SamConfig, preset
from sam_core.training.initialise import align_cross_attention
from tests.benchmarks.photographs import read_image
from tests.benchmarks.refusals import refusals

RADII = (0.04, 0.1, 0.22)  # of the regions that outputs 1 to 3 draw, as a share of the model input
PASSING = 0.3  # share of candidates whose predicted IoU passes the recipes' 0.88
STABLE = 0.6  # share of masks whose stability score passes the recipes' 0.95
STEPS = 140
CLICKS = 16  # in each step of teaching
GRID = 16  # side of the embedding while teaching
TEACHING_THREADS = 4  # its products are small: on 16 cores, 16 threads took 30 CPU minutes for it

MEANING = (
    f"random weights; the mask decoder taught in {STEPS} steps to draw regions around clicks; predicted IoU scaled so "
    f"that about {PASSING:.0%} of candidates pass 0.88, logits so that about {STABLE:.0%} of masks have stability 0.95"
)


@dataclass(frozen=True, slots=True)
class Options:
    """Writes a random model that draws near clicks."""

    preset: str
    """Configuration, such as vit_b."""
    image: Path
    """A photograph, of which the embeddings are made that the decoder learns on."""
    out: Path
    """Where to write the checkpoint."""
    seed: int = 0


def random_model(config: SamConfig, image: npt.NDArray[np.uint8], *, seed: int, steps: int = STEPS) -> Sam:
    """The random model of this configuration and seed, in evaluation mode; image: uint8 RGB [H, W, 3]."""
    torch.manual_seed(seed)
    sam = Sam(config).eval()
    for name, parameter in sam.named_parameters():
        if "rel_pos" in name:  # zero when fresh, which would hide errors in their use
            torch.nn.init.normal_(parameter, std=0.1)
    align_cross_attention(sam)
    embedding = encode(sam, [image])
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, TEACHING_THREADS))
    try:
        teach(sam, embedding.features, seed=seed, steps=steps)
        calibrate(sam, embedding)
    finally:
        torch.set_num_threads(threads)
    return sam


def teach(sam: Sam, features: ImageFeatures, *, seed: int, steps: int) -> None:
    """Trains the mask decoder, on a thinned-out embedding, to draw a region of each of RADII around a click."""
    factor = max(1, features.embedding.shape[-1] // GRID)
    thin = ImageFeatures(_thin(features.embedding, factor), tuple(_thin(fine, factor) for fine in features.fine))
    positions = _thin(sam.prompt_encoder.dense_positions(), factor)
    optimizer = torch.optim.AdamW(sam.mask_decoder.parameters(), lr=5e-4 if sam.config.image_size > 512 else 1e-3)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        clicks = torch.rand(CLICKS, 2, generator=rng) * sam.config.image_size
        with torch.no_grad():
            sparse, dense = sam.prompt_encoder(_foreground(clicks))
        predicted = sam.mask_decoder(thin, positions, sparse, dense, multimask=True)
        loss = drawing_loss(predicted.logits, regions(thin.embedding, clicks / sam.config.image_size))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()


def regions(embedding: Tensor, clicks: Tensor) -> Tensor:
    """Regions around clicks [N, 2] (xy, shares of the model input), bool [N, 3, 4h, 4w], for an embedding [1, C, h, w].

    Their outlines, and some holes and specks, follow three channels of the embedding.
    """
    texture = F.interpolate(embedding[:, :3], scale_factor=4, mode="bilinear")
    centres = (torch.arange(texture.shape[-1]) + 0.5) / texture.shape[-1]
    x, y = clicks[:, :, None, None, None].unbind(1)
    distance = torch.hypot(centres - x, centres[:, None] - y)
    return distance < torch.tensor(RADII)[:, None, None] * (1 + 0.3 * texture / texture.std())


def drawing_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy plus dice loss of logits and bool masks [N, M, h, w]."""
    target, drawn = wanted.float(), logits.sigmoid()
    overlap, total = (drawn * target).sum((2, 3)), (drawn + target).sum((2, 3))
    return F.binary_cross_entropy_with_logits(logits, target) + (1 - (2 * overlap + 1) / (total + 1)).mean()


@torch.no_grad()
def calibrate(sam: Sam, embedding: ImageEmbedding, *, per_side: int = 8) -> None:
    """Scales the last layers of the heads: predicted IoU to a spread of 0.1 and PASSING, logits to STABLE.

    Measured on a grid of clicks over the first image of the embedding, for each output by itself.
    """
    height, width = embedding.frames[0].original_size
    clicks = torch.from_numpy(point_grid(per_side) * (width, height)).float()
    batch = decode(sam, embedding, _foreground(clicks))
    quality = _last_layer(sam.mask_decoder.iou_prediction_head)
    for output, head in enumerate(list(sam.mask_decoder.output_hypernetworks_mlps)[1:]):
        iou, logits = batch.iou[:, output], batch.logits[:, output]
        spread = 0.1 / float(iou.std())
        quality.weight[output + 1] *= spread
        quality.bias[output + 1] = 0.88 + (quality.bias[output + 1] - iou.quantile(1 - PASSING)) * spread
        filters = _last_layer(head)
        sharpness = sharpening(logits)
        filters.weight.mul_(sharpness)
        filters.bias.mul_(sharpness)


def sharpening(logits: Tensor) -> float:
    """The factor on logits [N, h, w] at which STABLE of the masks have a stability score of 0.95."""
    low, high = 1e-3, 1e3
    for _ in range(30):
        middle = (low * high) ** 0.5
        inner, outer = (torch.count_nonzero(logits * middle > offset, dim=(1, 2)) for offset in (1, -1))
        stable = float(((inner >= 0.95 * outer) & (outer > 0)).float().mean())
        low, high = (low, middle) if stable >= STABLE else (middle, high)
    return high


def _foreground(clicks: Tensor) -> Prompts:
    return Prompts(points=clicks[:, None], labels=torch.ones(len(clicks), 1, dtype=torch.int64))


def _thin(x: Tensor, factor: int) -> Tensor:
    return F.avg_pool2d(x, factor)


def _last_layer(head: torch.nn.Module) -> torch.nn.Linear:
    assert isinstance(head, MLP)
    layer = head.layers[-1]
    assert isinstance(layer, torch.nn.Linear)
    return layer


def main() -> None:
    options = tyro.cli(Options)
    with refusals():
        sam = random_model(preset(options.preset), read_image(options.image), seed=options.seed)
    save_model(sam, options.out, {"weights": MEANING, "seed": str(options.seed)})


if __name__ == "__main__":
    main()
