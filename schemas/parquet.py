"""How tables become files: one way to write Parquet, so that equal tables are equal bytes."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables import FORMAT_VERSION, TABLES, sort_keys

_ZSTD_LEVEL = 6


def to_parquet_bytes(table: pa.Table) -> bytes:
    """The Parquet file of a table: the same bytes for the same rows, in whatever order and chunks they come.

    Rows are sorted as their schema says, so that readers skip row groups by their statistics; strings of few values
    are dictionary-encoded, the rest as the field says; pages are compressed by Zstandard.

    Raises:
        ValueError: the table was not made with one of `schemas.tables`, or holds null where none may be.
    """
    schema = _known_schema(table)
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


def from_parquet_bytes(data: bytes) -> pa.Table:
    """Table of a file written by `to_parquet_bytes`, with the schema's metadata.

    Raises:
        ValueError: the bytes are no Parquet file, or not one of a table known here.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
    except pa.ArrowInvalid as error:
        raise ValueError(f"not a readable Parquet file of {len(data)} bytes: {error}") from error
    return table.select(_known_schema(table).names)


def _known_schema(table: pa.Table) -> pa.Schema:
    name = (table.schema.metadata or {}).get(b"table", b"").decode()
    if name not in TABLES:
        raise ValueError(f"table {name!r} is not one of {', '.join(TABLES)}: make it with its schema")
    schema = TABLES[name]
    version = int(table.schema.metadata[b"format_version"])
    if version > FORMAT_VERSION:
        raise ValueError(
            f"table {name} has format version {version}, this program reads up to {FORMAT_VERSION}: "
            "upgrade sam-data-engine"
        )
    if missing := [column for column in schema.names if column not in table.column_names]:
        raise ValueError(f"table {name} lacks the columns {', '.join(missing)}")
    return schema


def _refuse_nulls(table: pa.Table, schema: pa.Schema) -> None:
    for field in schema:
        if not field.nullable and table.column(field.name).null_count:
            raise ValueError(f"table {schema.metadata[b'table'].decode()}: column {field.name} holds nulls")
