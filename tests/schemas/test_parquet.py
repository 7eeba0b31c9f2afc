"""Equal tables are equal bytes, and what is written is read back, by us and by others."""

import io

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.parquet import from_parquet_bytes, from_plain_parquet, to_parquet_bytes, to_plain_parquet
from schemas.tables import MASKS, TABLES
from tests.schemas import rows


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.concat_tables([rows.masks(rows.image(name), rows.discs(20, seed=n)) for n, name in enumerate("abc")])


def test_rows_come_back_sorted_and_described(table: pa.Table) -> None:
    back = from_parquet_bytes(to_parquet_bytes(table))
    assert back.equals(table.sort_by([("image_id", "ascending"), ("mask_id", "ascending")]).combine_chunks())
    assert back.schema.equals(MASKS, check_metadata=True)


def test_some_columns_are_read_alone(table: pa.Table) -> None:
    data = to_parquet_bytes(table)
    assert from_parquet_bytes(data, ["area", "image_id"]).equals(from_parquet_bytes(data).select(["area", "image_id"]))


def test_bytes_do_not_depend_on_order_or_chunks(table: pa.Table) -> None:
    expected = to_parquet_bytes(table)
    order = np.random.default_rng(0).permutation(table.num_rows)
    pieces = [table.take(order)[start : start + 7] for start in range(0, table.num_rows, 7)]
    assert to_parquet_bytes(pa.concat_tables(pieces)) == expected
    assert to_parquet_bytes(from_parquet_bytes(expected)) == expected


@pytest.mark.parametrize("name", TABLES)
def test_empty_tables_keep_their_types(name: str) -> None:
    back = from_parquet_bytes(to_parquet_bytes(TABLES[name].empty_table()))
    assert back.num_rows == 0
    assert back.schema.equals(TABLES[name], check_metadata=True)


def test_layout_of_the_file(table: pa.Table) -> None:
    metadata = pq.read_metadata(io.BytesIO(to_parquet_bytes(table)))
    columns = {c.path_in_schema: c for c in (metadata.row_group(0).column(i) for i in range(metadata.num_columns))}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "RLE_DICTIONARY" in columns["run_id"].encodings
    assert "DELTA_BYTE_ARRAY" in columns["mask_id"].encodings
    assert columns["image_id"].statistics.min == min(rows.image(name) for name in "abc")
    assert columns["area"].statistics.has_min_max
    assert columns["rle"].statistics is None
    assert [metadata.schema.names[key.column_index] for key in metadata.row_group(0).sorting_columns] == [
        "image_id",
        "mask_id",
    ]


def test_a_plan_is_cut_into_small_row_groups() -> None:
    table = rows.plan({shard: [f"{shard}-{i}" for i in range(100)] for shard in range(200)})
    metadata = pq.read_metadata(io.BytesIO(to_parquet_bytes(table)))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [8192, 8192, 20_000 - 2 * 8192]


def test_duckdb_reads_the_same(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("duckdb") / "masks.parquet"
    path.write_bytes(to_parquet_bytes(table))
    read = duckdb.sql(f"SELECT mask_id, rle, area FROM '{path}'").fetchall()
    assert read == [
        tuple(row[name] for name in ("mask_id", "rle", "area"))
        for row in from_parquet_bytes(path.read_bytes()).to_pylist()
    ]


def test_tables_of_other_schemas_are_refused(table: pa.Table) -> None:
    with pytest.raises(ValueError, match="make it with its schema"):
        to_parquet_bytes(pa.table({"a": [1]}))
    with pytest.raises(ValueError, match="table masks lacks the columns rle, area"):
        to_parquet_bytes(table.drop_columns(["rle", "area"]))


def test_nulls_are_refused_where_none_may_be(table: pa.Table) -> None:
    holed = table.set_column(0, MASKS.field(0), pa.array([None] * table.num_rows, pa.string()))
    with pytest.raises(ValueError, match="table masks: column mask_id holds nulls"):
        to_parquet_bytes(holed)


def test_other_bytes_are_refused(table: pa.Table) -> None:
    whole = to_parquet_bytes(table)
    for broken in (b"", b"PAR1", whole[:-20], b"not parquet at all" * 10):
        with pytest.raises(ValueError, match="not a readable Parquet file"):
            from_parquet_bytes(broken)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), buffer)
    with pytest.raises(ValueError, match="make it with its schema"):
        from_parquet_bytes(buffer.getvalue())


def test_a_newer_format_is_refused(table: pa.Table) -> None:
    newer = table.replace_schema_metadata({**table.schema.metadata, b"format_version": b"99"})
    buffer = io.BytesIO()
    pq.write_table(newer, buffer)
    with pytest.raises(ValueError, match="table masks has format version 99, this program reads up to 1: upgrade"):
        from_parquet_bytes(buffer.getvalue())


def test_equal_rows_of_any_table_are_equal_bytes() -> None:
    one = pa.table({"task": ["edges", "edges"], "value": [0.5, 0.5]})
    parts = pa.concat_tables([one.slice(0, 1), one.slice(1, 1)])
    assert to_plain_parquet(one) == to_plain_parquet(parts)
    assert from_plain_parquet(to_plain_parquet(one)).equals(one)
    assert from_plain_parquet(to_plain_parquet(one), ["value"]).column_names == ["value"]
