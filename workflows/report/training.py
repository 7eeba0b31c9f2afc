"""Training in the report: how loss and IoU went, of the newest runs, out of the metrics that training wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from schemas.layout import TRAINING_PREFIX, training_key
from schemas.records import TrainingRecord, from_json
from workflows.report import charts
from workflows.report.figures import Figure, Table
from workflows.storage import Store
from workflows.train.metrics import StepMetrics, read_metrics

RUNS_SHOWN = 4
BINS = 40
_WEIGHTS = {"focal": 20.0, "dice": 1.0, "iou": 1.0, "embedding_error": 1.0}
"""The paper's weights of what a run's metrics hold."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training run; `label` is what charts call it. `rows`: its steps so far."""

    record: TrainingRecord
    label: str
    rows: Sequence[StepMetrics]


@dataclass(frozen=True, slots=True)
class Training:
    """The newest runs and their curves."""

    runs: Sequence[TrainingRun]
    figures: Sequence[Figure]


Curve = Callable[[Sequence[StepMetrics], NDArray[np.int64], int], NDArray[np.float64]]
"""The height of each bin, from a run's steps, the bin of each, and how many bins there are; NaN where it has none."""


def read_training(store: Store) -> Training | None:
    """What a data set holds about training; None when nothing was trained."""
    names = {entry.key.split("/")[1] for entry in store.list(TRAINING_PREFIX.rstrip("/"))}
    keys = [training_key(name.removeprefix("run=")) for name in names]
    records = [from_json(TrainingRecord, store.get(key), where=f"{store.root}/{key}") for key in keys]
    newest = sorted(records, key=lambda record: (record.created_at, record.stage))[-RUNS_SHOWN:]
    runs = [TrainingRun(record, _label(record), read_metrics(store, record.run_id)) for record in newest]
    runs = [run for run in runs if run.rows]
    return Training(runs, curves(runs)) if runs else None


def curves(runs: Sequence[TrainingRun]) -> list[Figure]:
    """Loss, and IoU where masks were trained on, over the steps of each run."""
    note = "Weighted as in the paper, in percent of the run's first steps."
    figures = [_curve("Loss", note, "loss", runs, _relative_loss)]
    if any("last_iou" in run.rows[0].values for run in runs):
        note = "Mean IoU of the chosen mask with the training masks, after the last round of prompts."
        figures.append(_curve("mIoU in training", note, "mIoU", runs, _last_iou))
    return figures


def _relative_loss(rows: Sequence[StepMetrics], bins: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    values = [sum(_WEIGHTS.get(name, 0.0) * value for name, value in row.values.items()) for row in rows]
    means = _means(np.array(values), bins, count)
    said = means[means > 0]
    return np.asarray(100 * means / said[0] if len(said) else means)


def _last_iou(rows: Sequence[StepMetrics], bins: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    return 100 * _means(np.array([row.values.get("last_iou", np.nan) for row in rows]), bins, count)


def _means(values: NDArray[np.float64], bins: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Mean of the values in each bin, NaN in empty ones, as behind the last step of a shorter run."""
    sums, steps = np.bincount(bins, values, minlength=count), np.bincount(bins, minlength=count)
    return np.asarray(np.divide(sums, steps, out=np.full(count, np.nan), where=steps > 0))


def _curve(title: str, note: str, unit: str, runs: Sequence[TrainingRun], of: Curve) -> Figure:
    last = max(run.rows[-1].step for run in runs)
    count = min(BINS, last)  # narrower bins than a step would leave gaps
    edges = np.arange(count + 1) * last // count
    binned = [np.searchsorted(edges, [row.step - 1 for row in run.rows], side="right") - 1 for run in runs]
    heights = np.array([of(run.rows, bins, count) for run, bins in zip(runs, binned, strict=True)])
    names = [f"steps {low + 1}–{high}" for low, high in pairwise(edges)]
    columns = [[_percent(height) for height in column] for column in heights.T]
    titles = [
        "\n".join([name, *(f"{run.label}: {height}" for run, height in zip(runs, column, strict=True))])
        for name, column in zip(names, columns, strict=True)
    ]
    rows = tuple((name, *column) for name, column in zip(names, columns, strict=True))
    plot = charts.histogram(
        edges.astype(np.float64), np.nan_to_num(heights), titles=titles, x_label="step", y_label=unit
    )
    source = "\n".join(f"-- training/run={run.record.run_id}/metrics/*.json" for run in runs)
    return Figure(title, note, plot, Table(("steps", *(run.label for run in runs)), rows), source)


def _percent(height: float) -> str:
    return "–" if np.isnan(height) else f"{height:.1f} %"


def _label(record: TrainingRecord) -> str:
    stage = f" {record.stage}" if record.stage > 1 else ""
    return f"{record.name or record.run_id} · {record.preset}{stage}"
