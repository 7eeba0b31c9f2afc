"""The figures of the report against plain recomputation with pandas from the Parquet files."""

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

from schemas.tables import REJECTION_REASONS, STEPS
from workflows.report import queries
from workflows.sql import connect


@pytest.fixture(scope="module")
def connection(two_runs: Path) -> duckdb.DuckDBPyConnection:
    return connect(str(two_runs))


@pytest.fixture(scope="module")
def outcomes(two_runs: Path) -> pd.DataFrame:
    return _frame(two_runs, "outcomes")


@pytest.fixture(scope="module")
def masks(two_runs: Path) -> pd.DataFrame:
    return _frame(two_runs, "masks")


@pytest.fixture(scope="module")
def run_ids(outcomes: pd.DataFrame) -> list[str]:
    return sorted(outcomes["run_id"].unique(), reverse=True)


def _frame(root: Path, table: str) -> pd.DataFrame:
    return pd.concat(pd.read_parquet(path, partitioning=None) for path in sorted(root.glob(f"{table}/*/*.parquet")))


def test_buckets_are_those_of_the_paper(
    connection: duckdb.DuckDBPyConnection, outcomes: pd.DataFrame, run_ids: list[str]
) -> None:
    found = queries.masks_per_image_buckets(connection, run_ids)

    finished = outcomes[outcomes.status == "ok"]
    buckets = pd.cut(finished.n_masks, [-1, 10, 50, 100, 200, np.inf], labels=False)
    expected = pd.crosstab(finished.run_id, buckets).reindex(index=run_ids, columns=range(5), fill_value=0)
    np.testing.assert_array_equal(found.values, expected)


def test_masks_per_image(connection: duckdb.DuckDBPyConnection, outcomes: pd.DataFrame, run_ids: list[str]) -> None:
    bins, found = queries.masks_per_image_bins(connection, run_ids)

    for run_id, counts in zip(run_ids, found.values, strict=True):
        numbers = outcomes[(outcomes.run_id == run_id) & (outcomes.status == "ok")].n_masks
        np.testing.assert_array_equal(counts, np.histogram(numbers, bins.edges - 0.5)[0])


def test_relative_sizes(connection: duckdb.DuckDBPyConnection, masks: pd.DataFrame, run_ids: list[str]) -> None:
    bins, found = queries.relative_size_bins(connection, run_ids)

    for run_id, counts in zip(run_ids, found.values, strict=True):
        own = masks[masks.run_id == run_id]
        sizes = np.sqrt(own.area / (own.height * own.width))
        np.testing.assert_array_equal(counts, np.histogram(np.minimum(sizes, bins.edges[-1]), bins.edges)[0])


@pytest.mark.parametrize("column", ["predicted_iou", "stability_score"])
def test_scores(connection: duckdb.DuckDBPyConnection, masks: pd.DataFrame, run_ids: list[str], column: str) -> None:
    bins, found = queries.score_bins(connection, run_ids, column)

    for run_id, counts in zip(run_ids, found.values, strict=True):
        scores = masks[masks.run_id == run_id][column].astype(float).clip(upper=bins.edges[-1])
        np.testing.assert_array_equal(counts, np.histogram(scores, bins.edges)[0])


def test_size_classes(connection: duckdb.DuckDBPyConnection, masks: pd.DataFrame, run_ids: list[str]) -> None:
    found = queries.size_classes(connection, run_ids)

    classes = pd.cut(masks.area, [0, 32**2, 96**2, np.inf], right=False, labels=False)
    expected = pd.crosstab(masks.run_id, classes).reindex(index=run_ids, columns=range(3), fill_value=0)
    np.testing.assert_array_equal(found.values, expected)


def test_candidates_balance(connection: duckdb.DuckDBPyConnection, outcomes: pd.DataFrame, run_ids: list[str]) -> None:
    found = queries.candidates(connection, run_ids).values

    columns = ["n_masks", *(f"rejected_{reason}" for reason in REJECTION_REASONS), "candidates"]
    np.testing.assert_array_equal(found, outcomes.groupby("run_id")[columns].sum().loc[run_ids])
    np.testing.assert_array_equal(found[:, :-1].sum(axis=1), found[:, -1])


def test_seconds_are_means_over_finished_images(
    connection: duckdb.DuckDBPyConnection, outcomes: pd.DataFrame, run_ids: list[str]
) -> None:
    found = queries.step_seconds(connection, run_ids).values

    columns = [f"seconds_{step}" for step in STEPS]
    expected = outcomes[outcomes.status == "ok"].groupby("run_id")[columns].mean().loc[run_ids]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_failures_are_counted_by_kind_and_listed(connection: duckdb.DuckDBPyConnection, run_ids: list[str]) -> None:
    failures = queries.failures(connection, run_ids, limit=4)

    assert failures.total == 6
    assert set(failures.kinds) == {("crashed", "Crashed", 2), ("error", "Empty", 2), ("error", "NotAnImage", 2)}
    assert [(failure.error_class, Path(failure.uri).name) for failure in failures.images] == [
        ("Crashed", "killer.jpg"),
        ("Crashed", "killer.jpg"),
        ("Empty", "empty.jpg"),
        ("Empty", "empty.jpg"),
    ]


def test_only_the_runs_asked_for_are_counted(
    connection: duckdb.DuckDBPyConnection, outcomes: pd.DataFrame, run_ids: list[str]
) -> None:
    alone = queries.candidates(connection, run_ids[1:]).values

    np.testing.assert_array_equal(alone, queries.candidates(connection, run_ids).values[1:])
    assert queries.failures(connection, run_ids[1:], limit=10).total == 3


def test_no_runs_no_numbers(connection: duckdb.DuckDBPyConnection) -> None:
    assert queries.candidates(connection, []).values.shape == (0, 9)
    assert queries.score_bins(connection, [], "predicted_iou")[1].values.shape[0] == 0
    assert queries.failures(connection, [], limit=10).total == 0


def test_every_statement_can_be_asked_again(connection: duckdb.DuckDBPyConnection, run_ids: list[str]) -> None:
    statements = [
        queries.masks_per_image_buckets(connection, run_ids).sql,
        queries.relative_size_bins(connection, run_ids)[1].sql,
        queries.candidates(connection, run_ids).sql,
        queries.failures(connection, run_ids, limit=3).sql,
    ]

    for sql in statements:
        assert queries.rows(connection, sql)


def test_literals_are_quoted(connection: duckdb.DuckDBPyConnection) -> None:
    text = "it's '; DROP TABLE runs; --"

    assert queries.rows(connection, f"SELECT {queries.literal(text)} AS said") == [{"said": text}]
