"""Names of an evaluation's files, and equal bytes for equal rows."""

import pyarrow as pa
import pytest

from schemas.evaluation import (
    FIGURES,
    finished_shards,
    images_key,
    parquet_bytes,
    plan_key,
    read_parquet,
    rows_key,
)


def test_only_committed_shards_count() -> None:
    keys = [images_key("edges-1", 12), rows_key("edges-1", 7), plan_key("edges-1"), "evaluation=edges-1/images/x"]
    assert keys[0] == "evaluation=edges-1/images/shard-00000012.parquet"
    assert finished_shards(keys) == {12}


def test_equal_rows_are_equal_bytes() -> None:
    row = {"task": "edges", "origin": "measured", "row": "a", "figure": "ODS", "value": 0.5, "unit": "fraction"}
    one = pa.Table.from_pylist([row, row], FIGURES)
    parts = pa.concat_tables([pa.Table.from_pylist([row], FIGURES)] * 2)
    assert parquet_bytes(one) == parquet_bytes(parts)
    assert read_parquet(parquet_bytes(one)).equals(one)


def test_names_stay_below_the_root() -> None:
    with pytest.raises(ValueError, match="evaluation"):
        plan_key("../elsewhere")
