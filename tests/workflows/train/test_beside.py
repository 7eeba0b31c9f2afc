"""A training run that begins beside one that has not ended says what sets it apart; one that goes on says nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sam_core.training.config import TrainConfig
from sam_core.training.presets import fine_tune
from schemas.layout import training_end_key, training_key
from schemas.records import TrainingRecord
from workflows.commands import TrainCommand
from workflows.storage import LocalStore
from workflows.train.job import _proposed, _settled
from workflows.train.sources import open_sources


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "out")


@pytest.fixture
def config() -> TrainConfig:
    (config,) = fine_tune()
    return config


def begun(store: LocalStore, labels: Path, config: TrainConfig, **command: str) -> TrainingRecord:
    asked = TrainCommand((str(labels),), **command)  # type: ignore[arg-type]
    return _settled(store, _proposed(asked, config, open_sources(asked.sources, need_masks=True), None, 1))


def test_what_sets_it_apart_is_said_once(
    store: LocalStore, labelled: Path, config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    first = begun(store, labelled, config)
    assert capsys.readouterr().err == ""
    slower = replace(config, learning_rate=replace(config.learning_rate, base=1e-5))
    other = begun(store, labelled, slower)
    told = f"learning_rate.base is 1e-05, there {config.learning_rate.base}"
    assert capsys.readouterr().err == f"this run begins beside {first.run_id}, which has not ended: {told}\n"
    assert begun(store, labelled, slower) == other
    assert capsys.readouterr().err == "", "it goes on"


def test_data_that_changed(
    store: LocalStore, labelled: Path, config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = shutil.copytree(labelled, tmp_path / "own")
    first = begun(store, labels, config)
    removed = min((labels / "labels").iterdir())
    removed.unlink()
    begun(store, labels, config)
    told = capsys.readouterr().err
    assert told.startswith(f"this run begins beside {first.run_id}, which has not ended: ")
    assert told.endswith(f"{labels} has changed or counts otherwise\n")


def test_runs_that_ended_or_are_called_otherwise_are_not_meant(
    store: LocalStore, labelled: Path, config: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    first = begun(store, labelled, config)
    begun(store, labelled, config, run="second")
    store.put(training_end_key(first.run_id), b"{}")
    store.put(training_key("damaged"), b"{")
    begun(store, labelled, replace(config, seed=7))
    assert capsys.readouterr().err == ""
