"""The data engine's rounds in the report: how fast people were, how good the model, two rounds on the same images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import duckdb
import numpy as np

from workflows.report import charts, text
from workflows.report.figures import Figure, Table
from workflows.report.gallery import Picture, pictures
from workflows.report.queries import rows
from workflows.report.scope import Run

IMAGES_COMPARED = 4
HELD_OUT = "held-out-round-"
_HELD_OUT = re.compile(rf"{HELD_OUT}\d+").fullmatch
ROUNDS = "FROM round_summary"


@dataclass(frozen=True, slots=True)
class RoundLine:
    """One round; what its stage does not have is None. Scores are fractions."""

    round: int
    stage: str
    state: str
    promoted: bool | None
    reason: str | None
    model_after: str | None
    images: int | None
    masks: int | None
    masks_per_image: float | None
    clicks_per_mask: float | None
    seconds_per_mask: float | None
    base_miou: float | None
    held_out_miou: float | None
    clicks_to_090: float | None
    average_recall: float | None
    prefill_precision: float | None
    prefill_recall: float | None
    human_hours: float | None
    machine_hours: float | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class Rounds:
    """All rounds, their curves, and what the first and the last model find on the same held-out images."""

    lines: Sequence[RoundLine]
    figures: Sequence[Figure]
    compared: Sequence[Picture]
    sql: str = ROUNDS


@dataclass(frozen=True, slots=True)
class Curve:
    """A column of `round_summary` as a chart; `scale` takes it to its unit."""

    column: str
    title: str
    note: str
    unit: str = ""
    scale: float = 1.0


CURVES = (
    Curve("held_out_miou", "One-click mIoU", "Each round's new model on held-out images.", "%", 100),
    Curve("clicks_to_090", "Clicks to IoU 0.9", "The same models and images; the most where it is never reached."),
    Curve("masks_per_image", "Masks per image", "That stand on the images of the round, prefilled ones included."),
    Curve("seconds_per_mask", "Seconds per mask", "Working time on masks that were drawn by hand.", "s"),
    Curve("average_recall", "Average recall", "Of all masks that the model finds on a few held-out images.", "%", 100),
)


def read_rounds(connection: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> Rounds | None:
    """What a data set holds about rounds; None when there was none. runs: all runs, the newest last."""
    found = rows(connection, ROUNDS)
    if not found:
        return None
    names = [field.name for field in fields(RoundLine)]
    lines = [RoundLine(**{name: row[name] for name in names}) for row in found]
    figures = [figure for curve in CURVES if (figure := _figure(curve, found))]
    ends = _first_and_last([run for run in runs if _HELD_OUT(run.name or "")])
    compared = pictures(connection, ends, images=IMAGES_COMPARED) if ends else []
    return Rounds(lines, figures, compared)


def _first_and_last(runs: Sequence[Run]) -> list[Run]:
    ordered = sorted(runs, key=lambda run: int(str(run.name).removeprefix(HELD_OUT)))
    return [ordered[0], ordered[-1]] if len(ordered) > 1 else list(ordered)


def _figure(curve: Curve, found: Sequence[dict[str, Any]]) -> Figure | None:
    """Bars of the rounds that have the figure; None when none has."""
    there = [row for row in found if row[curve.column] is not None]
    if not there:
        return None
    names = [str(row["round"]) for row in there]
    values = [curve.scale * row[curve.column] for row in there]
    shown = [f"{text.figures(value)} {curve.unit}".strip() for value in values]
    stages = [row["stage"].replace("_", " ") for row in there]
    titles = [f"round {name}, {stage}: {value}" for name, stage, value in zip(names, stages, shown, strict=True)]
    plot = charts.grouped_bars(
        names,
        np.array([values]),
        titles=[titles],
        x_label="round",
        y_label=f"{curve.title[:1].lower()}{curve.title[1:]}",
        unit=curve.unit,
    )
    table = Table(("round", "stage", curve.title), tuple(zip(names, stages, shown, strict=True)))
    return Figure(curve.title, curve.note, plot, table, f"SELECT round, stage, {curve.column} FROM round_summary")
