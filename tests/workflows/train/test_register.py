"""A trained model becomes a registered one, with its weights, record and card."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from sam_core.model.checkpoint import load_model
from schemas.catalog import connect
from schemas.layout import checkpoint_part_key, model_text_key, training_end_key
from schemas.records import TrainingRecord
from tests.workflows.train.conftest import small_config
from workflows.runs import open_dataset
from workflows.storage import LocalStore
from workflows.train import checkpoints
from workflows.train.first_model import first_model
from workflows.train.metrics import StepMetrics, save_metrics
from workflows.train.register import Finished, finished, register, training_metrics
from workflows.train.state import TrainState


def record() -> TrainingRecord:
    return TrainingRecord(
        run_id="night-1",
        name="night",
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        preset="nano",
        stage=2,
        parent="vit_test-0123",
        parent_sha256="0" * 64,
        config=json.loads(json.dumps(asdict(small_config()))),
        data={"photos": {"weight": 2.0, "images": 6, "sha256": "ab"}},
        versions={},
        host="here",
    )


def row(step: int, iou: float) -> StepMetrics:
    return StepMetrics(step, {"last_iou": iou}, 8, 1e-3, 1.0, 0.1, 0.25)


def test_nothing_is_left_of_what_was_being_removed_after_the_last_step(tmp_path: Path) -> None:
    """No further checkpoint would have removed it."""
    store, config = LocalStore(tmp_path / "data"), small_config()
    state = TrainState.fresh(first_model(config, None), config)
    for step in (5, 6, 7):
        state.step = step
        checkpoints.save(store, "night-1", state.tensors())
    save_metrics(store, "night-1", [row(7, 0.5)])
    left = checkpoint_part_key("night-1", 5, 1)
    store.put(left, b"a piece whose commit was deleted")
    register(store, record(), config, validate=None)
    assert not store.exists(left)
    assert checkpoints.steps(store, "night-1") == [6, 7]


def test_weights_record_and_card(tmp_path: Path, labelled: Path) -> None:
    store, config = LocalStore(tmp_path / "data"), small_config()
    open_dataset(store)
    state = TrainState.fresh(first_model(config, None), config)
    for parameter in state.average.parameters():
        parameter.data += 1e-3  # so that the average is told from the model
    state.step = 7
    checkpoints.save(store, "night-1", state.tensors())
    save_metrics(store, "night-1", [row(7, 0.5)])
    found = register(store, record(), config, validate=str(labelled))
    loaded = load_model(found.weights)
    assert loaded.sha256 == found.sha256
    for name, tensor in state.average.state_dict().items():
        assert torch.equal(loaded.sam.state_dict()[name], tensor), name
    assert found.metrics["train_last_iou"] == 0.5
    assert 0 <= found.metrics["validation_1_click_miou"] <= 1
    card = store.get(model_text_key(found.model_id)).decode()
    for words in (
        "vit_test-0123",
        "photos (6 images, weight 2)",
        "nano, stage 2, 7 steps",
        "means over the last 7 steps",
        "| flop utilisation | 0.25 |",
    ):
        assert words in card
    assert connect(tmp_path / "data").execute("SELECT model_id, parent FROM models").fetchall() == [
        (found.model_id, "vit_test-0123")
    ]
    assert Finished(**json.loads(store.get(training_end_key("night-1")))) == found
    assert found.model(store).path == found.weights

    for parameter in state.average.parameters():
        parameter.data += 1e-7  # as another machine would round
    checkpoints.save(store, "night-1", state.tensors())
    assert register(store, record(), config, validate=None) == found  # by another command of the same run
    assert len(list(tmp_path.glob("data/models/*"))) == 1

    (tmp_path / "data").rename(tmp_path / "moved")
    assert load_model(finished(LocalStore(tmp_path / "moved"), "night-1").weights).sha256 == found.sha256  # type: ignore[union-attr]


def test_metrics_are_means_of_the_last_steps() -> None:
    rows = [row(step, 1.0 if step > 50 else 0.0) for step in range(1, 101)]
    assert training_metrics(rows) == pytest.approx({"train_last_iou": 1.0, "flop_utilisation": 0.25})
