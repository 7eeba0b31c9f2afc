"""What follows a training of the model in the box: weights between two models, and a choice of masks that fits them.

    python -m tests.benchmarks.finish_vit_n OLD NEW OUT --things FOLDER [--also NEW2] [--share 0.75] [--scenes 1536]

OUT is the mean of the old model's weights and the new one's, or of several new ones, with a head of predicted IoU
fitted anew, on first points in scenes with and without things: a mean of weights draws good masks, but its head no
longer tells them apart. What is fitted is the mean squared error of the three masks of a click, and nothing else moves.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
import tyro
from rich.progress import track
from torch import Tensor, nn

from sam_core.model.checkpoint import load_model, save_model
from sam_core.model.position_tables import resize_model_state
from sam_core.model.sam import Sam
from sam_core.training.config import TrainConfig
from sam_core.training.draws import prompt_draws
from sam_core.training.interactive import first_prompts, prompt_tokens
from sam_core.training.losses import iou_at_input
from sam_core.training.presets import train_preset
from sam_core.training.targets import TrainBatch, normalised, shown
from tests.benchmarks.gpu_training import supply
from tests.benchmarks.train_vit_n import Scenes

_MULTIMASK = slice(1, None)
_LOT = 256


@dataclass(frozen=True, slots=True)
class Options:
    """Averages two models and fits the head of predicted IoU."""

    old: tyro.conf.Positional[str]
    """Model before a training, by name or path."""
    new: tyro.conf.Positional[str]
    """Model after it."""
    out: tyro.conf.Positional[Path]
    """Where to write the weights, in half precision."""
    things: Path
    """Folder of cut-outs that stand in half of the scenes."""
    also: tuple[str, ...] = ()
    """More models after it, which began where NEW did."""
    share: float = 0.75
    """Of the new models' weights in the mean."""
    preset: str = "nano_things"
    """Whose last scenes the head is fitted on."""
    scenes: int = 1536
    """To fit the head on."""
    seed: int = 77
    """Of scenes, points and order."""


class Examples(NamedTuple):
    """tokens: [N, C], what the head of predicted IoU sees of a click. real: [N, 3], true IoU of the masks it gave."""

    tokens: Tensor
    real: Tensor


def mean_model(old: Sam, new: Sequence[Sam], share: float) -> Sam:
    """The first of the new models, with (1 - share) * old + share * (mean of new) as its parameters; the old one's
    position tables fitted to the input's size."""
    before = resize_model_state(old.state_dict(), new[0].config)
    with torch.no_grad():
        for (name, mine), *others in zip(new[0].named_parameters(), *(m.parameters() for m in new[1:]), strict=True):
            mine.copy_(torch.stack([mine, *others]).mean(0).lerp(before[name], 1 - share))
    return new[0]


def calibration_config(options: Options) -> TrainConfig:
    """First points alone, most of them where people click."""
    config = train_preset(options.preset)[-1]
    return replace(config, images=4, box_share=0.0, centre_share=0.75, bfloat16=False, seed=options.seed)


def scenes_of(config: TrainConfig, options: Options) -> Iterator[TrainBatch]:
    """Half of the scenes with things, half without."""
    for things in (options.things, None):
        yield from islice(supply(Scenes(config, 8, things), 1), options.scenes // (2 * config.images))


@torch.no_grad()
def examples(sam: Sam, batches: Iterable[TrainBatch], config: TrainConfig) -> Examples:
    """What the model finds with first points, and how good it is at the input's resolution."""
    tokens, real = [], []
    decoder, positions = sam.mask_decoder, sam.prompt_encoder.dense_positions()
    for batch in batches:
        encoded = sam.image_encoder(normalised(batch, sam.pixel_mean, sam.pixel_std)).take(batch.image_of)
        prompts = prompt_tokens(sam, first_prompts(batch, config, prompt_draws(batch, config.seed)))
        decoded = decoder.attend(encoded.embedding, positions, prompts.sparse, prompts.dense)
        logits = decoder.predictions(decoded, encoded.fine, multimask=True).logits
        tokens.append(decoded.iou)
        real.append(iou_at_input(logits, batch.masks, shown(batch)[batch.image_of]))
    return Examples(torch.cat(tokens), torch.cat(real))


def fit(head: nn.Module, found: Examples, *, seed: int, epochs: int = 10, rate: float = 1e-4) -> None:
    """AdamW on the mean squared error, a cosine down to nothing."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.05)
    steps = epochs * len(found.tokens) // _LOT
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    for _ in range(steps):
        chosen = torch.randint(len(found.tokens), (_LOT,), generator=order)
        optimizer.zero_grad()
        F.mse_loss(head(found.tokens[chosen])[:, _MULTIMASK], found.real[chosen]).backward()
        optimizer.step()
        schedule.step()


def agreement(head: nn.Module, found: Examples) -> tuple[float, float]:
    """Mean real IoU of the masks with the highest predicted IoU, and of the best ones."""
    with torch.no_grad():
        chosen = head(found.tokens)[:, _MULTIMASK].argmax(1, keepdim=True)
    return found.real.gather(1, chosen).mean().item(), found.real.amax(1).mean().item()


def main() -> None:
    options = tyro.cli(Options)
    old = load_model(options.old)
    new = [load_model(name) for name in (options.new, *options.also)]
    sam = mean_model(old.sam, [model.sam for model in new], options.share).eval()
    config = calibration_config(options)
    batches = track(scenes_of(config, options), total=options.scenes // config.images)
    found = examples(sam, batches, config)
    head = sam.mask_decoder.iou_prediction_head
    before = agreement(head, found)
    fit(head, found, seed=options.seed)
    after = agreement(head, found)
    print(f"{len(found.tokens)} clicks: chosen {before[0]:.4f} -> {after[0]:.4f}, best {after[1]:.4f}")
    told = {"share": options.share, "scenes": options.scenes, "calibration": asdict(config)}
    stages = [stage for model in (old, *new) for stage in json.loads(model.metadata["training"])]
    metadata = {**old.metadata, "training": json.dumps(stages), "finish": json.dumps(told)}
    save_model(sam, options.out, metadata, dtype=torch.float16)


if __name__ == "__main__":
    main()
