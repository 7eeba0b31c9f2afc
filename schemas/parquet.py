"""How tables become files: one way to write Parquet for the tables of `schemas.tables`, and a plain one for all others.

Both give equal bytes for equal tables.
"""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables import FORMAT_VERSION, TABLES, sort_keys

_ZSTD_LEVEL = 6
_SMALL = 1 << 20
"""Bytes of a file that one thread reads sooner than several."""


def to_parquet_bytes(table: pa.Table) -> bytes:
    """The Parquet file of a table: the same bytes for the same rows, in whatever order and chunks they come.

    Rows are sorted as their schema says, so that readers skip row groups by their statistics; strings of few values
    are dictionary-encoded, the rest as the field says; pages are compressed by Zstandard.

    Raises:
        ValueError: the table was not made with one of `schemas.tables`, or holds null where none may be.
    """
    schema = _known_schema(table.schema)
    _refuse_nulls(table, schema)
    table = table.select(schema.names).cast(schema).sort_by([(key, "ascending") for key in sort_keys(schema)])
    buffer = io.BytesIO()
    encodings = {field.name: field.metadata[b"encoding"].decode() for field in schema}
    pq.write_table(
        table.combine_chunks(),
        buffer,
        row_group_size=int(schema.metadata[b"row_group_rows"]),
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[name for name, encoding in encodings.items() if encoding == "dictionary"],
        column_encoding={name: encoding for name, encoding in encodings.items() if encoding != "dictionary"},
        write_statistics=[name for name in schema.names if name not in ("rle", "vector")],
        sorting_columns=[pq.SortingColumn(schema.get_field_index(key)) for key in sort_keys(schema)],
    )
    return buffer.getvalue()


def from_parquet_bytes(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Table of a file written by `to_parquet_bytes`, with the schema's metadata; of all its columns, or of some.

    Annotators leave many small files, so that one must not cost more than it has to: `pyarrow.parquet.read_table` takes
    three times as long for them.

    Raises:
        ValueError: the bytes are no Parquet file, or not one of a table known here.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = _known_schema(file.schema_arrow).names
        return file.read(list(columns or names), use_threads=len(data) > _SMALL).select(columns or names)
    except pa.ArrowInvalid as error:
        raise ValueError(f"not a readable Parquet file of {len(data)} bytes: {error}") from error


def to_plain_parquet(table: pa.Table) -> bytes:
    """The Parquet file of any table: the same bytes for the same rows in the same order."""
    buffer = io.BytesIO()
    pq.write_table(table.combine_chunks(), buffer, compression="zstd")
    return buffer.getvalue()


def from_plain_parquet(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of any Parquet file, with all of its columns or some. Raises pyarrow.ArrowInvalid where it is none."""
    return pq.read_table(pa.BufferReader(data), columns=columns)


def _known_schema(found: pa.Schema) -> pa.Schema:
    """The schema here of a table with the schema that was found. Raises ValueError when there is none."""
    metadata = found.metadata or {}
    name = metadata.get(b"table", b"").decode()
    if name not in TABLES:
        raise ValueError(f"table {name!r} is not one of {', '.join(TABLES)}: make it with its schema")
    schema = TABLES[name]
    version = int(metadata[b"format_version"])
    if version > FORMAT_VERSION:
        raise ValueError(
            f"table {name} has format version {version}, this program reads up to {FORMAT_VERSION}: "
            "upgrade sam-data-engine"
        )
    if missing := [column for column in schema.names if column not in found.names]:
        raise ValueError(f"table {name} lacks the columns {', '.join(missing)}")
    return schema


def _refuse_nulls(table: pa.Table, schema: pa.Schema) -> None:
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise ValueError(f"table {schema.metadata[b'table'].decode()}: column {field.name} holds nulls")
