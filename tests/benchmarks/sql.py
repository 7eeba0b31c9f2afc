"""DuckDB over many masks: what questions cost, and which layout of the files is best for them.

    python -m tests.benchmarks.sql make FOLDER --masks 100_000_000   # again until it says that all are there
    python -m tests.benchmarks.sql ask FOLDER [--json FILE]
    python -m tests.benchmarks.sql audit FOLDER [--json FILE]
    python -m tests.benchmarks.sql layouts [--json FILE]

100 million masks take about 12 GB. Every question is asked of `schemas.catalog.connect`, as users ask it.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import duckdb
import tyro
from tyro.conf import Positional, subcommand

from schemas.catalog import connect
from tests.benchmarks import many_masks
from tests.benchmarks.record import environment_fields, write_json
from tests.benchmarks.sql_layouts import compare
from workflows.report import queries

TIMES = 3
LOOK_UPS = 20
_AGGREGATE = "SELECT size_class(area) AS size, count(*) AS masks, avg(predicted_iou) AS iou FROM masks GROUP BY size"
_THRESHOLDS = """
SELECT
    count(*) FILTER (predicted_iou > 0.90 AND stability_score >= 0.95) AS a,
    count(*) FILTER (predicted_iou > 0.92 AND stability_score >= 0.96) AS b,
    count(*) FILTER (predicted_iou > 0.95 AND stability_score >= 0.97) AS c
FROM masks
"""


@dataclass(frozen=True, slots=True)
class Make:
    """Write a data set of made-up masks, or go on with one."""

    folder: Positional[Path]
    """Where it lies."""
    masks: int = 1_000_000
    """How many; a whole number of shards of a million."""
    workers: int = 2
    """Processes that write."""
    minutes: float = 6.0
    """Stop after so long; the same command goes on."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Measure the report's questions, single images and thresholds."""

    folder: Positional[Path]
    """A data set that `make` wrote."""
    json: Path | None = None
    """Where to write the record."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Measure `sam-engine audit` in a process of its own."""

    folder: Positional[Path]
    """A data set that `make` wrote."""
    json: Path | None = None
    """Where to write the record."""


@dataclass(frozen=True, slots=True)
class Layouts:
    """Compare orders, row groups and compression of the same rows."""

    masks: int = 2_000_000
    """Rows to write in each layout."""
    json: Path | None = None
    """Where to write the record."""


Command = (
    Annotated[Make, subcommand("make")]
    | Annotated[Ask, subcommand("ask")]
    | Annotated[Audit, subcommand("audit")]
    | Annotated[Layouts, subcommand("layouts")]
)


def ask(folder: Path) -> dict[str, Any]:
    """Seconds of every question, the first time and at best."""
    begun = time.perf_counter()
    connection = connect(folder)
    opened = time.perf_counter() - begun
    rows = connection.sql("SELECT count(*) FROM masks").fetchall()[0][0]
    found = {name: _timed(question) for name, question in _questions(connection)}
    look_ups = list(_look_ups(connection))
    return {
        "masks": rows,
        "bytes_per_mask": sum(path.stat().st_size for path in folder.glob("masks/*/*")) / rows,
        "seconds_connect": opened,
        "seconds": found,
        "one_image_ms": {"median": statistics.median(look_ups), "worst": max(look_ups)},
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def audit(folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of the whole command."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "workflows.cli", "audit", str(folder), "--out", f"{out}/audit.html"]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        page = (Path(out) / "audit.html").stat().st_size
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    masks = connect(folder).sql("SELECT count(*) FROM masks").fetchall()[0][0]
    return {"masks": masks, "seconds": seconds, "peak_memory_gb": memory, "page_mb": page / 2**20}


def _questions(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, Callable[[], object]]]:
    """The target's aggregate, the report's queries, and thresholds applied again."""
    runs = [many_masks.run_record().run_id]
    yield "count by size, mean score", lambda: connection.sql(_AGGREGATE).fetchall()
    yield "thresholds again", lambda: connection.sql(_THRESHOLDS).fetchall()
    yield "report: masks per image", lambda: queries.masks_per_image_buckets(connection, runs)
    yield "report: relative size", lambda: queries.relative_size_bins(connection, runs)
    yield "report: predicted IoU", lambda: queries.score_bins(connection, runs, "predicted_iou")
    yield "report: candidates", lambda: queries.candidates(connection, runs)
    yield "summary", lambda: connection.sql("FROM summary").fetchall()


def _look_ups(connection: duckdb.DuckDBPyConnection) -> Iterator[float]:
    """Milliseconds to get all columns of the masks of one image; images far apart, none twice."""
    sample = connection.sql(f"SELECT image_id FROM outcomes USING SAMPLE {LOOK_UPS} ROWS (reservoir, 1)").fetchall()
    for (image,) in sample:
        begun = time.perf_counter()
        found = connection.sql(f"FROM masks_of('{image}')").to_arrow_table()
        yield 1000 * (time.perf_counter() - begun)
        assert len(found) == many_masks.MASKS_PER_IMAGE


def _timed(question: Callable[[], object]) -> dict[str, float]:
    seconds = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        question()
        seconds.append(time.perf_counter() - begun)
    return {"first": seconds[0], "best": min(seconds)}


def main() -> None:
    command: Make | Ask | Audit | Layouts = tyro.cli(Command)
    match command:
        case Make():
            missing = many_masks.make(command.folder, command.masks, workers=command.workers, minutes=command.minutes)
            print(f"{missing} shards are missing: the same command goes on" if missing else "all shards are there")
            return
        case Ask():
            found = ask(command.folder)
        case Audit():
            found = audit(command.folder)
        case Layouts():
            found = {"masks": command.masks, "layouts": compare(command.masks)}
    for name, value in found.items():
        print(f"{name}: {value}")
    if command.json:
        write_json(command.json, found | {"duckdb": duckdb.__version__, **environment_fields()})


if __name__ == "__main__":
    main()
