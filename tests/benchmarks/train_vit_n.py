"""Trains the model in the box on one GPU, in the minutes that it is given.

    python -m tests.benchmarks.train_vit_n OUT --seconds 150 370 [--start vit_n] [--loaders 14]

The stages are those of the preset `nano_gpu`, the steps those of `sam-engine train` (`workflows.train.loop`), the
scenes those of `sam_core.scenes`; what differs is that no Ray is needed, and that a stage ends by the clock: its
schedule is as long as the pace so far promises.
Each stage begins with the averaged weights of the one before it. OUT gets `<size>.safetensors` in half precision,
`<size>.csv` with the losses, and `training.json`.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch.utils.data import DataLoader, Dataset

from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.training.presets import TrainConfig, nano_gpu
from sam_core.training.sampling import scene_sample
from sam_core.training.targets import TrainBatch, merge
from tests.benchmarks.record import environment_fields, write_json
from workflows.train.first_model import first_model
from workflows.train.loop import Trainer, TrainingError, attention_kernels
from workflows.train.metrics import Progress
from workflows.train.state import TrainState
from workflows.train.team import Team, join_encoder

LOTS = 10**6
SKIPPED = 20
"""Steps whose gradient may be not finite: they change nothing."""


@dataclass(frozen=True, slots=True)
class Options:
    """Trains vit_n on procedural scenes on one GPU."""

    out: tyro.conf.Positional[Path]
    """Folder for weights and records."""
    stage: tuple[str, ...]
    """SIZE:SECONDS:RATE:IMAGES:POINTS of each stage."""
    start: str | None = None
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


def alone(_: int) -> None:
    """Each process that renders keeps to one core."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def batches(config: TrainConfig, loaders: int) -> Iterator[list[TrainBatch]]:
    for batch in DataLoader(
        Scenes(config, loaders), batch_size=None, num_workers=loaders, prefetch_factor=2, worker_init_fn=alone
    ):
        yield [batch]


def train(config: TrainConfig, seconds: float, options: Options, start: str) -> tuple[Path, dict[str, Any]]:
    """One stage; returns its weights and what there is to say of it."""
    path = options.out / f"{config.image_size}.safetensors"
    model = first_model(config, start).to(options.device).train()
    team = Team(0, 1, options.device)
    state = TrainState.fresh(model, config)
    encoder = join_encoder(model, team, sharded=False)
    rows: list[Progress] = []
    skipped = 0
    supply, began = batches(config, options.loaders), time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        config = at_this_pace(config, state.step, passed / seconds)
        try:
            with attention_kernels(options.device):
                rows.append(Trainer(config, team, encoder, str).step(state, next(supply)))
        except TrainingError as error:
            print(error, flush=True)
            skipped += 1
            if skipped > SKIPPED:
                raise
        if state.step % 100 == 0:
            print(line(rows[-100:], config, passed), flush=True)
        if state.step % 500 == 0:
            save(state.average, path)
    save(state.average, path)
    write_rows(options.out / f"{config.image_size}.csv", rows)
    return path, {"steps": state.step, "skipped": skipped, "seconds": passed, "config": asdict(config)}


def at_this_pace(config: TrainConfig, step: int, passed: float) -> TrainConfig:
    """The schedule as long as it will be if steps go on as they did for this share of the time."""
    rate = config.learning_rate
    expected = max(step + 1, round(step / passed)) if step > rate.warmup / 2 else LOTS
    decay_at = (LOTS,) if rate.decay_at else ()
    return replace(config, learning_rate=replace(rate, iterations=expected, decay_at=decay_at))


def save(model: Sam, path: Path) -> None:
    save_model(model, path, {"weights": "trained on procedural scenes"}, dtype=torch.float16)


def line(rows: list[Progress], config: TrainConfig, seconds: float) -> str:
    means = {name: np.mean([row.values[name] for row in rows]) for name in rows[0].values}
    words = " ".join(f"{name} {value:.3f}" for name, value in means.items())
    busy = np.mean([row.seconds for row in rows])
    steps = f"{config.image_size} px step {rows[-1].step}/{config.learning_rate.iterations}"
    return f"{steps} {seconds:.0f} s, step {busy:.3f} s: {words}"


def write_rows(path: Path, rows: list[Progress]) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["step", "learning_rate", *rows[0].values])
        for row in rows[::10]:
            out.writerow([row.step, f"{row.learning_rate:.3g}", *(f"{value:.4g}" for value in row.values.values())])


def main() -> None:
    options = tyro.cli(Options)
    options.out.mkdir(parents=True, exist_ok=True)
    start, told = options.start, []
    for config, seconds in zip(nano_gpu(), options.seconds, strict=True):
        path, found = train(config, seconds, options, start)
        start = str(path)
        told.append(found)
        device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
        record = {"stages": told, "device": device, "loaders": options.loaders, **environment_fields()}
        write_json(options.out / "training.json", record)
    os._exit(0)  # loaders still render scenes that nobody wants


if __name__ == "__main__":
    main()
