"""Trains text prompts on one GPU: the experiment's CLIP and scenes, but new scenes for every step.

    python -m tests.benchmarks.text_prompts.train_on_gpu OUT --clip WORK/clip --seconds 900 [--start vit_n]

What `sam-engine crops` and `train --preset text_nano` do on a CPU with 2,500 stored scenes, with four times as many
images a step. Half of the mask loss goes to the mask that would be shown: after 1,000 steps on a CPU it was the
choice among three that failed. `python -m tests.benchmarks.text_prompts --trained OUT` measures the result.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from torch.utils.data import Dataset

from sam_core.clip import clip_metadata
from sam_core.clip_crops import CropBatch, crop, crop_batch, draw_crops
from sam_core.clip_transformers import TransformersClip, load_clip
from sam_core.training.config import TrainConfig
from sam_core.training.losses import LossWeights
from sam_core.training.presets import text_nano
from sam_core.training.schedule import LearningRate
from sam_core.training.targets import TrainBatch, merge
from tests.benchmarks.gpu_training import LOTS, Stage, device_name, supply, train
from tests.benchmarks.record import environment_fields, write_json
from tests.benchmarks.text_prompts.data import TRAIN_SEED, training_scene

WEIGHTS, CURVE, RECORD = "text.safetensors", "text.csv", "text.json"
Crops = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Options:
    """Trains vit_n on embeddings of crops on one GPU."""

    out: tyro.conf.Positional[Path]
    """Folder for weights and records."""
    clip: Path
    """Folder of the CLIP."""
    seconds: float
    """How long."""
    start: str = "vit_n"
    """Model to begin with."""
    images: int = 64
    """Of a step."""
    loaders: int = 4
    """Processes that render scenes."""
    device: str = "cuda"
    """Where both models run."""


@dataclass(frozen=True, slots=True)
class CaptionedBatches(Dataset[tuple[TrainBatch, CropBatch]]):
    """Batch n: scenes n * images to (n + 1) * images - 1, their masks, and one crop of each mask."""

    config: TrainConfig
    crop_size: int

    def __len__(self) -> int:
        return LOTS

    def __getitem__(self, step: int) -> tuple[TrainBatch, CropBatch]:
        first = step * self.config.images
        samples, crops = zip(*(self._sample(n) for n in range(first, first + self.config.images)), strict=True)
        return merge(list(samples)), crop_batch([each for some in crops for each in some])

    def _sample(self, number: int) -> tuple[TrainBatch, Crops]:
        config = self.config
        scene = training_scene(TRAIN_SEED, number)
        rng = np.random.default_rng([TRAIN_SEED, 1, number])
        large = np.flatnonzero(scene.masks.sum((1, 2)) >= config.min_source_area)
        masks = scene.masks[rng.permutation(large)[: config.masks_per_image]]
        crops = [crop(scene.image, mask, draw_crops(rng, 1)[0], self.crop_size) for mask in masks]
        sample = TrainBatch(
            images=torch.from_numpy(scene.image)[None],
            sizes=torch.tensor([scene.image.shape[:2]]),
            masks=torch.from_numpy(masks),
            image_of=torch.zeros(len(masks), dtype=torch.int64),
            numbers=torch.tensor([number]),
        )
        return sample, crops


def with_text(clip: TransformersClip, batches: Iterator[tuple[TrainBatch, CropBatch]]) -> Iterator[TrainBatch]:
    for batch, crops in batches:
        yield replace(batch, text=clip.embed_images(crops.pixels, crops.inside))


def configuration(clip: TransformersClip, images: int) -> TrainConfig:
    (config,) = text_nano()
    return replace(
        config,
        images=images,
        learning_rate=LearningRate(base=1e-3, warmup=100, iterations=LOTS),
        clip_name=clip.name,
        clip_sha256=clip.sha256,
        text_width=clip.width,
        jitter=(1.0, 1.0),
        average=0.998,
        bfloat16=True,
        losses=LossWeights(iou=4.0, chosen=0.5),
    )


def main() -> None:
    options = tyro.cli(Options)
    options.out.mkdir(parents=True, exist_ok=True)
    clip = load_clip(options.clip, device=options.device)
    config = configuration(clip, options.images)
    metadata = {"weights": "trained on procedural scenes", **clip_metadata(clip.name, clip.sha256)}
    stage = Stage(config, options.seconds, options.start, options.out / WEIGHTS, metadata, options.device)
    told = train(stage, with_text(clip, supply(CaptionedBatches(config, clip.image_size), options.loaders)))
    record = {**told, "device": device_name(options.device), "loaders": options.loaders, **environment_fields()}
    write_json(options.out / RECORD, record)
    os._exit(0)  # loaders still render scenes that nobody wants


if __name__ == "__main__":
    main()
