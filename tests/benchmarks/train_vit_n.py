"""Trains the model in the box on one GPU, in the minutes that it is given.

    python -m tests.benchmarks.train_vit_n OUT --seconds 150 370 900 [--start vit_n] [--loaders 14]
    python -m tests.benchmarks.train_vit_n OUT --preset nano_things --things FOLDER --seconds 980 --uses 4

The stages are those of a preset, the scenes those of `sam_core.scenes`; 0 seconds leave a stage out.
Each stage begins with the averaged weights of the one before it. OUT gets `<number>.safetensors` in half precision,
`<number>.csv` with the losses, and `training.json`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import tyro
from torch.utils.data import Dataset

from sam_core.training.config import TrainConfig
from sam_core.training.presets import train_preset
from sam_core.training.sampling import scene_sample
from sam_core.training.targets import TrainBatch, merge
from tests.benchmarks.gpu_training import LOTS, Stage, device_name, replayed, supply, train
from tests.benchmarks.record import environment_fields, write_json
from workflows.train.cutouts import CutOutPictures
from workflows.train.left_out import LeftOut
from workflows.uris import UriReader


@dataclass(frozen=True, slots=True)
class Options:
    """Trains vit_n on procedural scenes on one GPU."""

    out: tyro.conf.Positional[Path]
    """Folder for weights and records."""
    seconds: tuple[float, ...]
    """Of each stage."""
    preset: str = "nano_gpu"
    """Whose stages."""
    things: Path | None = None
    """Folder of cut-outs that stand in the scenes."""
    uses: int = 1
    """Steps that see a scene, in the mean."""
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
    things: Path | None = None
    """Opened by each loader for itself: Arrow, which reads them, does not outlive a fork."""

    def __len__(self) -> int:
        return LOTS

    def __getitem__(self, step: int) -> TrainBatch:
        first = step * self.config.images
        return merge([self._sample(number) for number in range(first, first + self.config.images)])

    def _sample(self, number: int) -> TrainBatch:
        rng = np.random.default_rng([self.config.seed, number])
        bank = number // self.config.images % self.banks
        while True:
            made = scene_sample(self.config, rng, number=number, bank_seed=bank, cutouts=things_of(self.things))
            if len(made.masks):
                return made


def stages(options: Options) -> tuple[TrainConfig, ...]:
    """Those of the preset. Raises ValueError when there is not one time for each."""
    configs = train_preset(options.preset)
    if len(configs) != len(options.seconds):
        raise ValueError(f"{options.preset} has {len(configs)} stages; --seconds names {len(options.seconds)}")
    return configs


@cache
def things_of(folder: Path | None) -> CutOutPictures | None:
    """The cut-outs of a folder."""
    if folder is None:
        return None
    pictures = [[str(path)] for path in sorted(folder.resolve().rglob("*.png"))]
    return CutOutPictures(folder.name, pa.table({"uris": pictures}), UriReader(), LeftOut())


def main() -> None:
    options = tyro.cli(Options)
    options.out.mkdir(parents=True, exist_ok=True)
    start, told = options.start, []
    for number, (config, seconds) in enumerate(zip(stages(options), options.seconds, strict=True), start=1):
        if not seconds:
            continue
        path = options.out / f"{number}.safetensors"
        stage = Stage(config, seconds, start, path, {"weights": "trained on procedural scenes"}, options.device)
        scenes = supply(Scenes(config, options.loaders, options.things), options.loaders)
        told.append(train(stage, replayed(scenes, options.uses, config.seed)))
        start = str(path)
        record = {
            "stages": told,
            "device": device_name(options.device),
            "loaders": options.loaders,
            "uses": options.uses,
        }
        write_json(options.out / "training.json", record | environment_fields())
    os._exit(0)  # loaders still render scenes that nobody wants


if __name__ == "__main__":
    main()
