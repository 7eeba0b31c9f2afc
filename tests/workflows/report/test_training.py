"""Curves of training in the report: binned means of what training wrote."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.layout import training_key
from schemas.records import TrainingRecord, to_json
from workflows.report import write_report
from workflows.report.charts import Chart
from workflows.report.training import read_training
from workflows.runs import open_dataset
from workflows.storage import LocalStore
from workflows.train.metrics import StepMetrics, save_metrics

RECORD = TrainingRecord(
    run_id="night-1",
    name="night",
    created_at=datetime(2026, 1, 2, tzinfo=UTC),
    preset="fine_tune",
    stage=1,
    parent=None,
    parent_sha256=None,
    config={},
    data={},
    versions={},
    host="here",
)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A run of 80 steps whose dice falls from 1 to 0.5 while the IoU rises."""
    store = LocalStore(tmp_path / "data")
    open_dataset(store)
    store.put(training_key(RECORD.run_id), to_json(RECORD).encode())
    values = [{"dice": 1 - step / 160, "focal": 0.0, "iou": 0.0, "last_iou": step / 80} for step in range(80)]
    rows = [StepMetrics(step + 1, found, 8, 1e-3, 1.0, 0.1) for step, found in enumerate(values)]
    save_metrics(store, RECORD.run_id, rows[:50])
    save_metrics(store, RECORD.run_id, rows[50:])
    return store


def test_bins_hold_the_means_of_their_steps(store: LocalStore) -> None:
    training = read_training(store)
    assert training is not None
    loss, iou = training.figures
    assert loss.table.rows[0] == ("steps 1–2", "100.0 %")
    assert loss.table.rows[-1] == ("steps 79–80", f"{100 * (1 - 78.5 / 160) / (1 - 0.5 / 160):.1f} %")
    assert iou.table.rows[20] == ("steps 41–42", f"{100 * 40.5 / 80:.1f} %")
    assert training.runs[0].label == "night · fine_tune"


def test_few_steps_have_a_bin_each(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "data")
    open_dataset(store)
    store.put(training_key(RECORD.run_id), to_json(RECORD).encode())
    save_metrics(
        store,
        RECORD.run_id,
        [StepMetrics(n, {"dice": 1 / n, "last_iou": 0.5}, 8, 1e-3, 1.0, 0.1) for n in (1, 2, 3)],
    )
    training = read_training(store)
    assert training is not None
    assert training.figures[0].table.rows == (
        *(("steps 1–1", "100.0 %"), ("steps 2–2", "50.0 %"), ("steps 3–3", "33.3 %")),
    )


def test_runs_beside_each_other_and_runs_without_steps(store: LocalStore) -> None:
    later = replace(RECORD, run_id="late-1", name=None, preset="distill", created_at=datetime(2026, 1, 3, tzinfo=UTC))
    empty = replace(later, run_id="none-1")
    for record in (later, empty):
        store.put(training_key(record.run_id), to_json(record).encode())
    rows = [StepMetrics(step + 1, {"embedding_error": 2.0}, 8, 1e-3, 1.0, 0.1) for step in range(40)]
    save_metrics(store, later.run_id, rows)
    training = read_training(store)
    assert training is not None
    assert [run.label for run in training.runs] == ["night · fine_tune", "late-1 · distill"]
    assert training.figures[0].table.rows[0] == ("steps 1–2", "100.0 %", "100.0 %")
    loss, iou = training.figures
    assert loss.table.rows[-1][2] == "–", "the shorter run has no steps there"
    assert isinstance(loss.plot, Chart)
    assert loss.plot.columns[-1].title.endswith("late-1 · distill: –")
    assert {row[2] for row in iou.table.rows} == {"–"}, "distillation has no masks"


@pytest.mark.parametrize("last", [41, 50, 79, 97, 1003])
def test_names_of_bins_are_the_steps_they_hold(tmp_path: Path, last: int) -> None:
    store = LocalStore(tmp_path / "data")
    open_dataset(store)
    store.put(training_key(RECORD.run_id), to_json(RECORD).encode())
    rows = [StepMetrics(n, {"dice": 1.0, "last_iou": n / 100}, 8, 1e-3, 1.0, 0.1) for n in range(1, last + 1)]
    save_metrics(store, RECORD.run_id, rows)
    training = read_training(store)
    assert training is not None
    spans = []
    for name, share in training.figures[1].table.rows:
        low, high = map(int, name.removeprefix("steps ").split("–"))
        assert share == f"{(low + high) / 2:.1f} %", "the mean of the steps that it names"
        spans += range(low, high + 1)
    assert spans == list(range(1, last + 1))


def test_the_page_shows_them(store: LocalStore, tmp_path: Path) -> None:
    write_report(store.root, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "mIoU in training" in page
    assert "100.0 %" in page


def test_nothing_trained_nothing_shown(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "data")
    open_dataset(store)
    assert read_training(store) is None
    write_report(store.root, tmp_path / "report.html")
    assert 'id="training"' not in (tmp_path / "report.html").read_text()
