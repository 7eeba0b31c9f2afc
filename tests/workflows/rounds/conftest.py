"""A small engine: pictures with true masks, `vit_test`, and training in this process instead of on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.conftest import save_labelled
from tests.workflows.train.conftest import picture
from tests.workflows.train.here import train_here
from workflows.rounds.config import EngineConfig, parse_engine
from workflows.rounds.detector_job import train_detector
from workflows.rounds.engine import Engine, Means, open_engine, run_rounds
from workflows.rounds.simulated import SimulatedAnnotator, SimulationJob
from workflows.rounds.steps import STEPS

Document = dict[str, Any]
Opened = Callable[..., Engine]


def save_pictures(folder: Path, seeds: Iterable[int]) -> Path:
    """images/ and labels/ with one picture for each seed."""
    return save_labelled(folder, {seed: picture(seed) for seed in seeds})


def simulate_here(job: SimulationJob, rows: list[dict[str, Any]]) -> None:
    """What `simulate_on_ray` does, in this process."""
    annotator = SimulatedAnnotator(job)
    for row in rows:
        annotator.annotate(**row)


def finish(engine: Engine) -> None:
    assert run_rounds(engine, STEPS, tell=lambda _: None)


@pytest.fixture
def document(tmp_path: Path, tiny_checkpoint: Path) -> Document:
    """An engine.yaml of one round of each stage that people work in; seconds in all."""
    save_pictures(tmp_path / "pool", range(6))
    save_pictures(tmp_path / "held_out", range(10, 13))
    return {
        "dataset": str(tmp_path / "data"),
        "images": str(tmp_path / "pool" / "images"),
        "held_out": str(tmp_path / "held_out"),
        "model": str(tiny_checkpoint),
        "stages": [
            {"stage": "assisted_manual", "images": 2},
            {"stage": "semi_automatic", "images": 2, "policy": "most_diverse"},
        ],
        "training": {"iterations": 2, "images": 2, "masks_per_image": 3, "image_size": 64, "threads": 1},
        "detector": {"fit": {"iterations": 3, "width": 8}, "precision": 0.1, "iou": 0.01},
        "evaluation": {"images": 2, "masks_per_image": 2, "recall_images": 1, "points_per_side": 2},
        "gate": {"least_gain": -1.0, "distrust_loss": 2.0},
        "simulation": {"truth": str(tmp_path / "pool"), "habits": {"clicks": 3}},
        "prices": {"annotator_hour": 10.0, "machine_hour": 1.0},
        "threads": 1,
    }


@pytest.fixture
def config(document: Document) -> EngineConfig:
    return parse_engine(document, where="engine.yaml")


@pytest.fixture
def opened() -> Opened:
    """Opens an engine that trains in this process."""

    def engine(config: EngineConfig, *, simulate: bool = True) -> Engine:
        return open_engine(config, Means(train_here, train_detector, simulate_here), simulate=simulate)

    return engine
