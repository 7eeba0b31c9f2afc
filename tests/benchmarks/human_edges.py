"""Whether our boundary matching is the benchmark's: people against people on BSDS500, beside the published F of 0.80.

    python -m tests.benchmarks.human_edges --data BSDS500 --json tests/benchmarks/results/human_edges_val.json

Each person's boundaries of an image stand in for a prediction and are matched with those of everybody else; precision
and recall come from sums over people and images. The published figure is of the test split; images of val were drawn
by the same people in the same way.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from tests.benchmarks.record import cpu_seconds, environment_fields, write_json
from tests.benchmarks.refusals import refusals
from workflows.evaluate.commands import EdgesConfig
from workflows.evaluate.job import evaluate
from workflows.evaluate.paper import HUMAN_F
from workflows.evaluate.task import MEASURED

TARGET = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """Measures people against people."""

    data: Path
    """Folder of BSDS500."""
    split: str = "val"
    """Which of ground_truth/*."""
    limit: int | None = None
    """At most this many images."""
    json: Path | None = None
    """Record to write."""


def main() -> None:
    options = tyro.cli(Options)
    with tempfile.TemporaryDirectory() as out:
        config = EdgesConfig(data=(str(options.data),), split=options.split, limit=options.limit, humans=True, out=out)
        with refusals():
            done = evaluate(config)
    found = {figure.figure: figure.value for figure in done.figures if figure.origin == MEASURED}
    away = abs(found["F"] - HUMAN_F)
    print(f"{found} against {HUMAN_F}: {away:.3f} away, {'within' if away <= TARGET else 'NOT within'} {TARGET}")
    if options.json:
        record = {"data": f"{options.data.resolve().name}/{options.split}", **found, "published": HUMAN_F, "away": away}
        write_json(options.json, record | {"driver_cpu_seconds": cpu_seconds()} | environment_fields())


if __name__ == "__main__":
    main()
