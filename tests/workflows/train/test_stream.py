"""Samples from loaders: in the order of the steps, from processes that stay, whoever dies on the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from sam_core.training.config import TrainConfig
from sam_core.training.targets import TrainBatch
from tests.workflows.train.conftest import small_config
from workflows.train.samples import Sampler, numbers_of
from workflows.train.sources import Source, open_sources
from workflows.train.stream import stream
from workflows.train.team import Team

STEPS = 6


class Watched(Sampler):
    """Leaves a file with the name of each process that made a sample; the first of them dies over step `fatal`."""

    def __init__(self, sources: tuple[Source, ...], config: TrainConfig, seen: Path, fatal: int = -1) -> None:
        super().__init__(sources, config)
        self.images, self.seen, self.fatal = config.images, seen, fatal

    def __reduce__(self) -> tuple[Any, ...]:
        return Watched, (self._sources, self._config, self.seen, self.fatal)

    def batch(self, numbers: range) -> TrainBatch:
        (self.seen / str(os.getpid())).touch()
        died = self.seen / "died"
        if numbers.start == self.fatal * self.images and not died.exists():
            died.touch()
            os._exit(1)
        return super().batch(numbers)


def steps_of(sampler: Sampler, images: int, loaders: int) -> list[TrainBatch]:
    made = stream(ray.put(sampler), Team(), images=images, parts=1, first=0, last=STEPS, loaders=loaders)
    return [part for step in made for part in step.parts]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("fatal", [-1, 2])
def test_steps_come_in_order_from_processes_that_stay(labelled: Path, tmp_path: Path, fatal: int) -> None:
    config = small_config()
    sources = open_sources((str(labelled),), need_masks=True)
    (tmp_path / "seen").mkdir()
    found = steps_of(Watched(sources, config, tmp_path / "seen", fatal), config.images, loaders=2)
    plain = Sampler(sources, config)
    wanted = [plain.batch(numbers_of(step, config.images, rank=0, workers=1, part=0, parts=1)) for step in range(STEPS)]
    assert len(found) == STEPS
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.masks, theirs.masks)
    processes = {path.name for path in (tmp_path / "seen").iterdir()} - {"died"}
    assert len(processes) == (2 if fatal < 0 else 3)
