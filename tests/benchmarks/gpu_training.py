"""Training on one GPU for so many seconds: no Ray, a schedule that follows the clock, samples from other processes.

The steps are those of `sam-engine train` (`workflows.train.loop`); what differs is that a stage ends by the clock: its
schedule is as long as the pace so far promises.
"""

from __future__ import annotations

import csv
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sam_core.model.checkpoint import save_model
from sam_core.training.config import TrainConfig
from sam_core.training.subnormals import zero_subnormals
from sam_core.training.targets import TrainBatch
from workflows.models import find_model
from workflows.train.first_model import first_model
from workflows.train.loop import Trainer, TrainingError, attention_kernels
from workflows.train.metrics import StepMetrics
from workflows.train.state import TrainState
from workflows.train.team import Team, join_encoder

Item = TypeVar("Item")
LOTS = 10**6
POOL = 48
"""Batches that may be seen again."""
RENUMBERED = 10_000_019
"""Between an image's number and that of the same image seen again: more than a training makes. Of a seed, a generator
of the CPU looks at the low 32 bits alone."""
SKIPPED = 20
"""Steps whose gradient may be not finite: they change nothing."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. start: model by name or path. path: of its weights, in half precision; `metadata` goes with them."""

    config: TrainConfig
    seconds: float
    start: str
    path: Path
    metadata: dict[str, str]
    device: str = "cuda"


def supply(batches: Dataset[Item], loaders: int) -> Iterator[Item]:
    """The items in order, made by so many processes, each of which keeps to one core."""
    return iter(DataLoader(batches, batch_size=None, num_workers=loaders, prefetch_factor=2, worker_init_fn=alone))


def replayed(batches: Iterator[TrainBatch], uses: int, seed: int) -> Iterator[TrainBatch]:
    """Each new batch, then `uses` - 1 of the last ones again, half of them mirrored, all with other prompts: for scenes
    that cost more than steps."""
    rng, pool = np.random.default_rng(seed), deque[TrainBatch](maxlen=POOL)
    again = count(1)
    for batch in batches:
        pool.append(batch)
        yield batch
        for _ in range(1, uses):
            old = pool[int(rng.integers(len(pool)))]
            turned = mirrored(old) if rng.random() < 0.5 else old
            # Prompts follow an image's number.
            yield replace(turned, numbers=old.numbers + next(again) * RENUMBERED)


def mirrored(batch: TrainBatch) -> TrainBatch:
    """The batch left to right; padding stays on the right."""
    side = torch.arange(batch.images.shape[2])
    width = batch.sizes[:, 1:]
    columns = torch.where(side < width, width - 1 - side, side)
    own = columns[batch.image_of]
    centres = None
    if batch.centres is not None:
        x = batch.sizes[batch.image_of, 1] - 1 - batch.centres[:, 0]
        centres = torch.stack([x, batch.centres[:, 1]], 1)
    return replace(
        batch,
        images=batch.images.gather(2, columns[:, None, :, None].expand_as(batch.images)),
        masks=batch.masks.gather(2, own[:, None].expand_as(batch.masks)),
        centres=centres,
    )


def alone(_: int) -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def train(stage: Stage, batches: Iterator[TrainBatch]) -> dict[str, Any]:
    """Weights and losses (`.csv`) of a stage as files; what there is to say of it."""
    zero_subnormals()
    config = stage.config
    model = first_model(config, find_model(stage.start)).to(stage.device).train()
    team = Team(0, 1, stage.device)
    state = TrainState.fresh(model, config)
    encoder = join_encoder(model, team, sharded=False)
    rows: list[StepMetrics] = []
    skipped, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < stage.seconds:
        config = at_this_pace(config, state.step, passed / stage.seconds)
        try:
            with attention_kernels():
                rows.append(Trainer(config, team, encoder, str).step(state, [next(batches)]))
        except TrainingError as error:
            print(error, flush=True)
            skipped += 1
            if skipped > SKIPPED:
                raise
            continue
        if state.step % 100 == 0:
            print(line(rows[-100:], config, passed), flush=True)
        if state.step % 500 == 0:
            save(state, stage, config)
    save(state, stage, config)
    write_rows(stage.path.with_suffix(".csv"), rows)
    return {"steps": state.step, "skipped": skipped, "seconds": passed, "config": asdict(config)}


def at_this_pace(config: TrainConfig, step: int, passed: float) -> TrainConfig:
    """The schedule as long as it will be if steps go on as they did for this share of the time."""
    rate = config.learning_rate
    expected = max(step + 1, round(step / passed)) if step > rate.warmup / 2 else LOTS
    decay_at = (LOTS,) if rate.decay_at else ()
    return replace(config, learning_rate=replace(rate, iterations=expected, decay_at=decay_at))


def save(state: TrainState, stage: Stage, config: TrainConfig) -> None:
    partial = stage.path.with_suffix(".partial.safetensors")
    metadata = stage.metadata | {"training": json.dumps([asdict(config)])}
    save_model(state.average, partial, metadata, dtype=torch.float16)
    partial.replace(stage.path)


def line(rows: list[StepMetrics], config: TrainConfig, seconds: float) -> str:
    means = {name: np.mean([row.values[name] for row in rows]) for name in rows[0].values}
    words = " ".join(f"{name} {value:.3f}" for name, value in means.items())
    busy = np.mean([row.seconds for row in rows])
    steps = f"{config.image_size} px step {rows[-1].step}/{config.learning_rate.iterations}"
    return f"{steps} {seconds:.0f} s, step {busy:.3f} s: {words}"


def write_rows(path: Path, rows: list[StepMetrics]) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["step", "learning_rate", *rows[0].values])
        for row in rows[::10]:
            out.writerow([row.step, f"{row.learning_rate:.3g}", *(f"{value:.4g}" for value in row.values.values())])


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"
