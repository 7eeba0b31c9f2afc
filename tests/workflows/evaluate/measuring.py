"""Evaluations without Ray, and what they came to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from workflows.evaluate.commands import (
    Measurable,
)
from workflows.evaluate.job import Evaluated, evaluate, here
from workflows.evaluate.task import MEASURED


def run(config: Measurable) -> Evaluated:
    return evaluate(config, pool=here)


def value(done: Evaluated, figure: str, row: str | None = None, origin: str = MEASURED) -> float:
    found = [f for f in done.figures if f.figure == figure and f.origin == origin and row in (None, f.row)]
    return found[0].value


def rows_of(config: Measurable, done: Evaluated) -> list[dict[str, Any]]:
    files = sorted(Path(config.out).glob(f"evaluation={done.evaluation}/rows/*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]
