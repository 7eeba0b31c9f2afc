"""What people did by hand: the table of seconds and masks by annotator, stage, round and model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from workflows.report.queries import rows

WORK = "SELECT * FROM annotation_work"


@dataclass(frozen=True, slots=True)
class Work:
    """One line: an annotator's work in a stage and round with one model (None: by hand alone). Shares are fractions."""

    annotator: str
    stage: str
    round: int | None
    model_id: str | None
    images: int
    masks: int
    masks_per_image: float | None
    worked_on: int
    seconds_per_mask: float | None
    clicks_per_mask: float | None
    brushed: float | None
    reminded: float | None


def work(connection: duckdb.DuckDBPyConnection) -> Sequence[Work]:
    """Every line, by round, stage and annotator; empty where nobody has annotated."""
    return tuple(Work(**row) for row in rows(connection, WORK))
