"""SQL over a data set wherever it lies; answers as a table, CSV or JSON."""

from __future__ import annotations

import csv
import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TextIO, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.fs as pafs
from rich.console import Console
from rich.table import Table

from schemas import catalog
from schemas.layout import DATASET_KEY
from workflows.commands import SqlConfig
from workflows.failures import visible
from workflows.redact import require_no_secrets
from workflows.storage import S3_SCHEME, open_store

Answer = TypeVar("Answer")

ROWS_SHOWN = 100
_ROWS_AT_ONCE = 8192
BESIDE_OTHERS = "15%"
"""Memory for `connect` where models, or what is asked for, need most of the machine's: what DuckDB sorts in more than
that goes to the temporary folder."""
_NEWEST_RUN = """
SELECT run_id FROM runs WHERE run_id IN (SELECT DISTINCT run_id FROM masks)
ORDER BY created_at DESC, run_id DESC LIMIT 1
"""
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)


def sql(config: SqlConfig) -> int:
    """Print the answer to one query, as it is found: it may be larger than memory. Raises ValueError (one line) when
    there is no data set or the query fails."""
    connection = connect(config.dataset)
    answer = _in_a_thread(connection, lambda: catalog.stream(connection, config.query, rows=_ROWS_AT_ONCE))
    if answer is None:
        raise catalog.QueryError('nothing is asked; give one SQL statement, such as "SELECT * FROM summary"')
    schema, found = answer
    names = _unique(schema.names)
    write = {"table": _write_first, "csv": _write_csv, "json": _write_json}[config.format]
    doubles = [_with_floats(each.type, pa.float64()) for each in schema]
    written = pa.schema(list(zip(names, doubles, strict=True)))
    try:
        write(written, (_as_written(batch, written) for batch in _waited_for(connection, found)), sys.stdout)
    except OverflowError as error:
        raise catalog.QueryError(f"{error}: cast the column to VARCHAR, as no date of Python's is that far") from error
    return 0


def _waited_for(connection: duckdb.DuckDBPyConnection, found: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    while (batch := _in_a_thread(connection, lambda: next(found, None))) is not None:
        yield batch


def _in_a_thread(connection: duckdb.DuckDBPyConnection, ask: Callable[[], Answer]) -> Answer:
    """What is asked of DuckDB, in a thread of its own: one in DuckDB hears of signals only when it has its answer."""
    with ThreadPoolExecutor(1) as asking:
        try:
            answer = asking.submit(ask)
            while wait([answer], timeout=0.5).not_done:  # a signal just before a wait begins does not end it
                pass
            return answer.result()
        except (KeyboardInterrupt, SystemExit):
            connection.interrupt()
            raise


def _unique(names: list[str]) -> list[str]:
    """The same names; equal ones go on as _1, _2, since a row has one value of each name."""
    taken = set(names)
    seen: dict[str, None] = {}
    for name in names:
        unique, number = name, 0
        while unique in seen or (number and unique in taken):
            number += 1
            unique = f"{name}_{number}"
        seen[unique] = None
    return list(seen)


def _as_written(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The same, 32-bit floats as the doubles that read alike: 0.45, and not 0.44999998807907104."""
    columns = [
        found if found.type == field.type else found.cast(_with_floats(found.type, pa.string())).cast(field.type)
        for found, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.record_batch(columns, schema=schema)


def _with_floats(kind: pa.DataType, other: pa.DataType) -> pa.DataType:
    """A type with another one in the place of 32-bit floats."""
    if pa.types.is_float32(kind):
        return other
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(_with_floats(each.type, other)) for each in kind])
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_with_floats(kind.value_type, other)), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_with_floats(kind.value_type, other)))
    return kind


def connect(dataset: str | Path, *, memory: str | None = None) -> duckdb.DuckDBPyConnection:
    """A read-only connection to a data set, local or `s3://bucket/prefix`; memory as in `catalog.connect`. Raises
    ValueError if there is none, OSError when its store is at fault."""
    root = str(dataset)
    require_no_secrets(root)
    if not root.startswith(S3_SCHEME):
        return catalog.connect(root, memory=memory)
    store = open_store(root)
    store.exists(DATASET_KEY)  # before pyarrow asks, which no signal ends as long as a store does not answer
    try:
        return catalog.connect(root, filesystem=s3_filesystem(), memory=memory)
    except (ValueError, OSError):
        store.exists(DATASET_KEY)  # which says in our own words where the store is at fault
        raise


def find_run(connection: duckdb.DuckDBPyConnection, wanted: str) -> str | None:
    """Id of the run of that id or name, the newest if several bear the name; None when there is none."""
    found = connection.execute(
        "SELECT run_id FROM runs WHERE ? IN (run_id, name) ORDER BY created_at DESC LIMIT 1", [wanted]
    ).fetchall()
    return found[0][0] if found else None


def newest_run(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Id of the newest run that has masks; None when there is none."""
    found = connection.execute(_NEWEST_RUN).fetchall()
    return found[0][0] if found else None


def require_run(connection: duckdb.DuckDBPyConnection, dataset: str, wanted: str) -> str:
    """`find_run` where there has to be one. Raises ValueError, one line, when there is none."""
    if (run_id := find_run(connection, wanted)) is None:
        ask = f"sam-engine sql {shlex.quote(dataset)} 'SELECT run_id, name FROM runs'"
        raise ValueError(f"{dataset} has no run {wanted!r}; see: {ask}")
    return run_id


def s3_filesystem() -> pafs.FileSystem:
    """S3 as boto3 sees it, for reading."""
    from workflows.s3_arrow import S3AsBoto3  # boto3 takes a while to import

    return pafs.PyFileSystem(S3AsBoto3())


def _write_first(schema: pa.Schema, batches: Iterator[pa.RecordBatch], stream: TextIO) -> None:
    """The first rows as a table, and how many there are."""
    shown: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        shown += [batch.slice(0, ROWS_SHOWN - count)] if count < ROWS_SHOWN else []
        count += len(batch)
    write_table(pa.Table.from_batches(shown, schema), stream, of=count)


def write_table(answer: pa.Table, stream: TextIO, *, of: int = 0) -> None:
    """Rows below one another, and how many there are; where not even the names of columns fit on the terminal, each row
    as a list."""
    console = Console(file=stream, width=None if stream.isatty() else 10_000, emoji=False)
    shown = [
        [
            "" if value is None else "\n".join(map(visible, str(value).split("\n")))
            for value in map(_shown, row.values())
        ]
        for row in answer.slice(0, ROWS_SHOWN).to_pylist()
    ]
    fits = sum(len(name) + 2 for name in answer.column_names) <= console.width
    for table in [_side_by_side(answer.schema, shown)] if fits else _lists(answer.column_names, shown):
        console.print(table, markup=False)
    if (count := max(of, len(answer))) > ROWS_SHOWN:
        console.print(f"... the first {ROWS_SHOWN} of {count:,} rows; --format csv or json gives all")


def _side_by_side(schema: pa.Schema, rows: list[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for field in schema:
        number = any(is_kind(field.type) for is_kind in _NUMBERS)
        table.add_column(field.name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _lists(names: list[str], rows: list[list[str]]) -> Iterator[Table]:
    """A table of name and value for each row, an empty line behind it."""
    for row in rows:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in zip(names, row, strict=True):
            table.add_row(name, value)
        table.add_row("", "")
        yield table


def _write_csv(schema: pa.Schema, batches: Iterator[pa.RecordBatch], stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(schema.names)
    for batch in batches:
        for row in batch.to_pylist():
            writer.writerow([_shown(value) for value in row.values()])


def _write_json(_schema: pa.Schema, batches: Iterator[pa.RecordBatch], stream: TextIO) -> None:
    """One array with one object per row, one row per line."""
    separator = "[\n"
    for batch in batches:
        for row in batch.to_pylist():
            values = {name: _plain(value) for name, value in row.items()}
            stream.write(separator + json.dumps(values, ensure_ascii=False, default=str))
            separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def _shown(value: object) -> object:
    """A value as tables and CSV say it: as JSON has it, but a decimal with all digits, of which a float keeps 16."""
    if isinstance(value, list | dict):
        return json.dumps(_plain(value), ensure_ascii=False, default=str)
    return f"{value:f}" if isinstance(value, Decimal) else _plain(value)


def _plain(value: object) -> object:
    """A value, or what lies in it, as text and JSON can hold it: RLE bytes as ASCII, other bytes as hex, decimals (sums
    are some) as plain numbers, intervals in words, no NaN."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, bytes):
        return value.decode("ascii") if value.isascii() else value.hex()
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, pa.MonthDayNano):  # an interval, as between two times, in words that DuckDB reads
        return f"{value.months} months {value.days} days {value.nanoseconds / 1e9} seconds"
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
