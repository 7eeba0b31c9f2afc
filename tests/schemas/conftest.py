"""A data set of two runs, and how tests ask it."""

from __future__ import annotations  # evaluated ones would keep DuckDB's types alive at exit, which it reports

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from schemas import layout
from schemas.catalog import connect, query
from schemas.records import to_json
from tests.schemas import rows

OTHER_RUN = "other-0123456789ab"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runs: one of two shards with an error and an unfinished third shard, one of one shard without a record."""
    root = rows.new_dataset(tmp_path / "data set with spaces, 'quotes' and *")
    rows.put(root, layout.images_key("1"), rows.images([(name, f"x/{name}.png") for name in "abcd"]))
    rows.put(root, layout.run_key(rows.RUN), to_json(rows.run_record()))
    rows.put_shard(root, 0, {"a": 3, "b": 5})
    rows.put_shard(root, 1, {"c": 0})
    failed = pa.concat_tables([rows.outcomes({rows.image("c"): 0}, shard=1), rows.failed(rows.image("d"), shard=1)])
    rows.put(root, layout.outcomes_key(rows.RUN, 1), failed)
    _, unfinished = rows.put_shard(root, 2, {"e": 7})
    unfinished.unlink()
    rows.put_shard(root, 0, {"a": 4}, run_id=OTHER_RUN)
    return root


@pytest.fixture
def connection(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(root) as opened:
        yield opened


def answer(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in query(connection, sql).to_pylist()]
