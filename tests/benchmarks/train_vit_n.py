"""Trains the model in the box on one GPU, in the minutes that it is given.

    python -m tests.benchmarks.train_vit_n OUT --seconds 150 370 900 [--start vit_n] [--loaders 14]

The stages are those of the preset `nano_gpu`, the scenes those of `sam_core.scenes`; 0 seconds leave a stage out.
Each stage begins with the averaged weights of the one before it. OUT gets `<number>.safetensors` in half precision,
`<number>.csv` with the losses, and `training.json`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from torch.utils.data import Dataset

from sam_core.training.presets import TrainConfig, nano_gpu
from sam_core.training.sampling import scene_sample
from sam_core.training.targets import TrainBatch, merge
from tests.benchmarks.gpu_training import LOTS, Stage, device_name, supply, train
from tests.benchmarks.record import environment_fields, write_json


@dataclass(frozen=True, slots=True)
class Options:
    """Trains vit_n on procedural scenes on one GPU."""

    out: tyro.conf.Positional[Path]
    """Folder for weights and records."""
    seconds: tuple[float, ...]
    """Of each stage."""
    start: str = "vit_n"
    """Model to begin with."""
    loaders: int = 14
    """Processes that render scenes."""
    device: str = "cuda"
    """Where the model runs."""


@dataclass(frozen=True, slots=True)
class Scenes(Dataset[TrainBatch]):
    """Batch n of a stage: scenes n * images to (n + 1) * images - 1."""

    config: TrainConfig
    banks: int
    """Texture banks, one for each process that renders: loaders take turns."""

    def __len__(self) -> int:
        return LOTS

    def __getitem__(self, step: int) -> TrainBatch:
        first = step * self.config.images
        return merge([self._sample(number) for number in range(first, first + self.config.images)])

    def _sample(self, number: int) -> TrainBatch:
        rng = np.random.default_rng([self.config.seed, number])
        bank = number // self.config.images % self.banks
        while not len((made := scene_sample(self.config, rng, number=number, bank_seed=bank)).masks):
            pass
        return made


def main() -> None:
    options = tyro.cli(Options)
    options.out.mkdir(parents=True, exist_ok=True)
    start, told = options.start, []
    for number, (config, seconds) in enumerate(zip(nano_gpu(), options.seconds, strict=True), start=1):
        if not seconds:
            continue
        path = options.out / f"{number}.safetensors"
        stage = Stage(config, seconds, start, path, {"weights": "trained on procedural scenes"}, options.device)
        told.append(train(stage, supply(Scenes(config, options.loaders), options.loaders)))
        start = str(path)
        record = {"stages": told, "device": device_name(options.device), "loaders": options.loaders}
        write_json(options.out / "training.json", record | environment_fields())
    os._exit(0)  # loaders still render scenes that nobody wants


if __name__ == "__main__":
    main()
