"""What the report asks a data set, in SQL over its public views. DuckDB counts; only sums and samples come back.

Every statement is whole: it can be copied from the page and asked again with `sam-engine sql`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from schemas.catalog import query
from schemas.tables import REJECTION_REASONS, STEPS
from workflows.licences import require_licences
from workflows.report.bins import Bins, log_bins, real_bins, whole_bins

BUCKETS = ("≤10", "11–50", "51–100", "101–200", ">200")
"""Masks per image as the paper groups them (section 5, figure 6)."""
SIZE_CLASSES = ("small", "medium", "large")
"""COCO's classes of mask area."""
BUCKET_SQL = """CASE
    WHEN n_masks <= 10 THEN 0
    WHEN n_masks <= 50 THEN 1
    WHEN n_masks <= 100 THEN 2
    WHEN n_masks <= 200 THEN 3
    ELSE 4 END"""
"""The number of an image's bucket, from 0."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Figures per run and part (bin, bucket, reason or step), float [runs, parts], and the SQL that gave them."""

    values: NDArray[np.float64]
    sql: str


@dataclass(frozen=True, slots=True)
class Failure:
    """One image that is not done."""

    run_id: str
    status: str
    error_class: str
    error_message: str
    uri: str


@dataclass(frozen=True, slots=True)
class Failures:
    """Every kind of failure (status, error class, images), and the first of the images."""

    kinds: tuple[tuple[str, str, int], ...]
    images: tuple[Failure, ...]
    sql: str

    @property
    def total(self) -> int:
        return sum(images for _, _, images in self.kinds)


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    """The answer to a query, one dict per row."""
    return list(query(connection, sql).to_pylist())


def literal(text: str) -> str:
    """Text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def licence_condition(connection: duckdb.DuckDBPyConnection, patterns: Sequence[str], stated_in: str) -> str:
    """SQL on image_id: every stated licence of an image is allowed, as copies of it may come under several.

    stated_in: relation of image_id and licence. Raises ValueError when no image has an allowed licence.
    """
    if not patterns:
        return "true"
    stated = [licence for (licence,) in connection.execute(f"SELECT DISTINCT licence FROM {stated_in}").fetchall()]
    allowed = ", ".join(map(literal, require_licences(stated, patterns)))
    return (
        f"image_id IN (SELECT image_id FROM {stated_in} AS stated GROUP BY image_id "
        f"HAVING bool_and(stated.licence IN ({allowed})))"
    )


def of_runs(run_ids: Sequence[str]) -> str:
    """The condition that a row belongs to one of the runs."""
    return f"run_id IN ({', '.join(map(literal, run_ids))})" if run_ids else "false"


def image_count(connection: duckdb.DuckDBPyConnection) -> int:
    """How many different images the data set knows, done or not."""
    return int(rows(connection, "SELECT count(*) AS images FROM images")[0]["images"])


def problems(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, int]]:
    """What is unsound in the data set, and how often; empty as it should be."""
    sql = "SELECT problem, count(*) AS times FROM problems GROUP BY problem ORDER BY problem"
    return [(row["problem"], row["times"]) for row in rows(connection, sql)]


def masks_per_image_buckets(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> Numbers:
    """How many finished images lie in each of BUCKETS."""
    return _counted(connection, run_ids, BUCKET_SQL, len(BUCKETS), _finished(run_ids))


def masks_per_image_bins(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> tuple[Bins, Numbers]:
    """How many finished images have how many masks."""
    images = _finished(run_ids)
    bins = whole_bins(_extent(connection, "n_masks", images)[1])
    return bins, _counted(connection, run_ids, bins.sql("n_masks"), bins.count, images)


def size_classes(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> Numbers:
    """How many masks belong to each of SIZE_CLASSES."""
    number = f"list_position({list(SIZE_CLASSES)}, size_class(area)) - 1"
    return _counted(connection, run_ids, number, len(SIZE_CLASSES), _kept(run_ids))


def relative_size_bins(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> tuple[Bins, Numbers]:
    """How many masks have which relative size, on a logarithmic scale."""
    size, masks = "relative_size(area, height, width)", _kept(run_ids)
    bins = log_bins(*_extent(connection, size, masks))
    return bins, _counted(connection, run_ids, bins.sql(size), bins.count, masks)


def score_bins(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str], column: str) -> tuple[Bins, Numbers]:
    """How many masks have which score; `column` is predicted_iou or stability_score."""
    masks = _kept(run_ids)
    bins = real_bins(*_extent(connection, column, masks))
    return bins, _counted(connection, run_ids, bins.sql(column), bins.count, masks)


def candidates(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> Numbers:
    """Masks kept, those rejected for each of REJECTION_REASONS, and last the candidates that all these were."""
    rejected = [f"sum(rejected_{reason})::BIGINT AS {reason}" for reason in REJECTION_REASONS]
    sums = ["sum(n_masks)::BIGINT AS kept", *rejected, "sum(candidates)::BIGINT AS candidates"]
    return _aggregated(connection, run_ids, sums, _finished(run_ids))


def step_seconds(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str]) -> Numbers:
    """Mean seconds of each of STEPS per finished image."""
    return _aggregated(connection, run_ids, [f"avg(seconds_{step}) AS {step}" for step in STEPS], _finished(run_ids))


def failures(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str], *, limit: int) -> Failures:
    """Images that are not done: how many of each kind, and the first `limit` of them."""
    which = f"status <> 'ok' AND {of_runs(run_ids)}"
    kinds = (
        f"SELECT status, error_class, count(*) AS images FROM outcomes WHERE {which} GROUP BY ALL ORDER BY 3 DESC, 1, 2"
    )
    sql = (
        "SELECT run_id, status, error_class, error_message, coalesce(uri, image_id) AS uri\n"
        f"FROM outcomes LEFT JOIN images USING (image_id)\nWHERE {which}\n"
        f"ORDER BY error_class, uri, run_id LIMIT {limit}"
    )
    return Failures(
        kinds=tuple((row["status"], row["error_class"] or "", row["images"]) for row in rows(connection, kinds)),
        images=tuple(Failure(**{name: value or "" for name, value in row.items()}) for row in rows(connection, sql)),
        sql=sql,
    )


def _finished(run_ids: Sequence[str]) -> str:
    return f"outcomes WHERE status = 'ok' AND {of_runs(run_ids)}"


def _kept(run_ids: Sequence[str]) -> str:
    return f"masks WHERE {of_runs(run_ids)}"


def _extent(connection: duckdb.DuckDBPyConnection, value: str, source: str) -> tuple[Any, Any]:
    """Lowest and highest value of an SQL expression; 1 and 1 where there are no rows."""
    found = rows(connection, f"SELECT min({value}) AS low, max({value}) AS high FROM {source}")[0]
    return (1, 1) if found["low"] is None else (found["low"], found["high"])


def _counted(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str], number: str, bins: int, source: str
) -> Numbers:
    """Rows of each run by the SQL expression that numbers their bin from 0."""
    sql = f"SELECT run_id, {number} AS bin, count(*) AS times\nFROM {source}\nGROUP BY ALL ORDER BY ALL"
    values = np.zeros((len(run_ids), bins))
    for row in rows(connection, sql):
        values[run_ids.index(row["run_id"]), row["bin"]] = row["times"]
    return Numbers(values, sql)


def _aggregated(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str], columns: Sequence[str], source: str
) -> Numbers:
    """Aggregates of each run, one column each."""
    listed = ",\n    ".join(["run_id", *columns])
    sql = f"SELECT\n    {listed}\nFROM {source}\nGROUP BY run_id ORDER BY run_id"
    values = np.zeros((len(run_ids), len(columns)))
    for row in rows(connection, sql):
        run_id, *sums = row.values()
        values[run_ids.index(run_id)] = sums
    return Numbers(values, sql)
