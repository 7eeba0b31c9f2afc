"""The figures of the report: a question, its answer as a chart and as a table, and the SQL that anybody can repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from schemas.tables import REJECTION_REASONS, STEPS
from workflows.report import charts, queries, text
from workflows.report.bins import Bins
from workflows.report.charts import Chart, Marker, Stack
from workflows.report.queries import Numbers
from workflows.report.scope import Run

REASON_NAMES = {
    "iou": "predicted IoU too low",
    "stability": "not stable enough",
    "box_at_crop_edge": "cut by the edge of its crop",
    "area": "empty, or nearly the whole image",
    "nms_in_crop": "duplicate in the same crop",
    "nms_across_crops": "duplicate in another crop",
    "small_region": "small regions only, or the same as another without them",
}
STEP_NAMES = {
    "read": "read file",
    "decode_image": "decode image",
    "encode": "image encoder",
    "decode": "mask decoder",
    "select": "thresholds",
    "nms": "duplicates (NMS)",
    "regions": "small regions",
    "rle": "run-length encoding",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What a figure asks; `unit` is what it counts, `x_label` what it counts by."""

    title: str
    note: str
    x_label: str
    unit: str


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers as text; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One question and its answer."""

    title: str
    note: str
    plot: Chart | Stack
    table: Table
    sql: str


_MASKS_PER_IMAGE = Question("Masks per image", "How the masks spread over the images.", "masks per image", "images")
_BUCKETS = Question(
    "Images by number of masks",
    "The groups by which the Segment Anything paper compares data sets.",
    "masks per image",
    "images",
)
_SIZE = Question(
    "Relative mask size",
    "Square root of mask area over image area: at 0.1, a tenth of the image's side.",
    "relative size, log scale",
    "masks",
)
_CLASSES = Question(
    "Size classes", "By area, as COCO draws the lines: 32² and 96² pixels.", "size of the mask", "masks"
)
_IOU = Question("Predicted IoU", "The model's own estimate of how well each mask fits.", "predicted IoU", "masks")
_STABILITY = Question(
    "Stability score",
    "IoU between a mask cut a little tighter and the same mask cut a little looser.",
    "stability score",
    "masks",
)
_CANDIDATES = Question(
    "Kept and rejected",
    "Every candidate is kept, or rejected for the first reason that applies; a bar is all candidates of its run.",
    "what became of it",
    "candidates",
)
_SECONDS = Question(
    "Seconds per image, by step",
    "Mean over finished images, of all threads of their worker together.",
    "step",
    "seconds",
)


def mask_figures(connection: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> list[Figure]:
    """How many, how large and how good the masks are."""
    ids = [run.run_id for run in runs]
    iou, stability = (queries.score_bins(connection, ids, column) for column in ("predicted_iou", "stability_score"))
    return [
        _bar_figure(_BUCKETS, runs, queries.BUCKETS, queries.masks_per_image_buckets(connection, ids)),
        _histogram_figure(_MASKS_PER_IMAGE, runs, *queries.masks_per_image_bins(connection, ids)),
        _histogram_figure(_SIZE, runs, *queries.relative_size_bins(connection, ids)),
        _bar_figure(_CLASSES, runs, queries.SIZE_CLASSES, queries.size_classes(connection, ids)),
        _histogram_figure(_IOU, runs, *iou, markers=_thresholds(runs, "min_predicted_iou")),
        _histogram_figure(_STABILITY, runs, *stability, markers=_thresholds(runs, "min_stability_score")),
    ]


def candidate_figure(connection: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> Figure:
    """Where every candidate mask ended."""
    numbers = queries.candidates(connection, [run.run_id for run in runs])
    parts, candidates = numbers.values[:, :-1], numbers.values[:, -1]
    names = ["kept", *(REASON_NAMES[reason] for reason in REJECTION_REASONS)]
    return _parts_figure(
        _CANDIDATES,
        runs,
        Numbers(parts, numbers.sql),
        names,
        lengths=_shares(parts),
        form=lambda value: text.count(int(value)),
        sums={"kept and rejected": parts.sum(axis=1), "candidates": candidates},
    )


def seconds_figure(connection: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> Figure:
    """Where the time went."""
    numbers = queries.step_seconds(connection, [run.run_id for run in runs])
    names = [STEP_NAMES[step] for step in STEPS]
    sums = {"all steps": numbers.values.sum(axis=1)}
    return _parts_figure(_SECONDS, runs, numbers, names, lengths=numbers.values, form=text.figures, sums=sums)


def _bar_figure(ask: Question, runs: Sequence[Run], groups: Sequence[str], numbers: Numbers) -> Figure:
    titles = _hover(ask, runs, groups, numbers.values)
    shares = _shares(numbers.values)
    plot = charts.grouped_bars(groups, shares, titles=titles, x_label=ask.x_label, y_label=_y_label(ask))
    return _counted(ask, runs, groups, numbers, plot)


def _histogram_figure(
    ask: Question, runs: Sequence[Run], bins: Bins, numbers: Numbers, *, markers: Sequence[Marker] = ()
) -> Figure:
    plot = charts.histogram(
        bins.edges,
        _shares(numbers.values),
        titles=["\n".join(lines) for lines in zip(*_hover(ask, runs, bins.names, numbers.values), strict=True)],
        x_label=ask.x_label,
        y_label=_y_label(ask),
        log=bins.kind == "log",
        markers=markers,
    )
    return _counted(ask, runs, bins.names, numbers, plot)


def _parts_figure(
    ask: Question,
    runs: Sequence[Run],
    numbers: Numbers,
    names: Sequence[str],
    *,
    lengths: NDArray[np.float64],
    form: Callable[[float], str],
    sums: Mapping[str, NDArray[np.float64]],
) -> Figure:
    """Bars of parts, as long as `lengths` [runs, parts] says. The table is the legend: a row per part with amount and
    share, then the sums."""
    cells = [[f"{form(value)} · {text.share(value, row.sum())}" for value in row] for row in numbers.values]
    titles = [[f"{name}: {cell}" for name, cell in zip(names, row, strict=True)] for row in cells]
    parts = [(name, *values) for name, *values in zip(names, *cells, strict=True)]
    together = [(name, *map(form, values)) for name, values in sums.items()]
    table = Table((ask.x_label, *_heads(ask, runs)), (*parts, *together))
    return Figure(ask.title, ask.note, charts.stacked(lengths, titles=titles), table, numbers.sql)


def _counted(ask: Question, runs: Sequence[Run], names: Sequence[str], numbers: Numbers, plot: Chart) -> Figure:
    """A figure whose table says how many there are of each."""
    rows = tuple(
        (name, *(text.count(int(value)) for value in values))
        for name, values in zip(names, numbers.values.T, strict=True)
    )
    return Figure(ask.title, ask.note, plot, Table((ask.x_label, *_heads(ask, runs)), rows), numbers.sql)


def _thresholds(runs: Sequence[Run], name: str) -> list[Marker]:
    """Where the recipes cut: one line for all when they agree, else one per run."""
    values = [run.threshold(name) for run in runs]
    if len(set(values)) == 1:
        return [Marker(value, f"kept above {value:g}", None) for value in values[:1] if value is not None]
    return [Marker(value, f"{value:g}", series) for series, value in enumerate(values) if value is not None]


def _hover(ask: Question, runs: Sequence[Run], names: Sequence[str], counts: NDArray[np.float64]) -> list[list[str]]:
    """Hover texts, [runs][parts]."""
    prefixes = [f"{run.label}: " if len(runs) > 1 else "" for run in runs]
    return [
        [
            f"{prefix}{name}: {text.count(int(value))} {ask.unit}, {text.share(value, row.sum())}"
            for name, value in zip(names, row, strict=True)
        ]
        for prefix, row in zip(prefixes, counts, strict=True)
    ]


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Percent of each run's total; 0 where there is nothing."""
    return np.asarray(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def _y_label(ask: Question) -> str:
    return f"share of {ask.unit}"


def _heads(ask: Question, runs: Sequence[Run]) -> list[str]:
    """Column heads: the runs where there are several, else what is counted."""
    return [run.label for run in runs] if len(runs) > 1 else [ask.unit]
