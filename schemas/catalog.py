"""A data set as a DuckDB database: views of what is committed, behind which there is nothing else to reach.

A connection is a snapshot of the files that were committed when it was made. Its SQL can read those files and
nothing else, and write nowhere, whoever wrote it.
"""

import builtins
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.fs as pafs

from schemas.committed import committed_files, model_records, open_place, round_records, run_records
from schemas.mergers import PartRange
from schemas.parquet import to_parquet_bytes
from schemas.place_errors import said_last, without_traceback
from schemas.records import ModelRecord, RoundRecord, RunRecord, records_table
from schemas.tables import ANNOTATIONS, CROPS, EVENTS, IMAGES, MASKS, OUTCOMES, RELATIONS, TAGS
from schemas.window import KEPT_BYTES, SCHEME, CommittedFiles

_EMPTY_TABLES = {
    "images/empty.parquet": IMAGES,
    "masks/run=none/empty.parquet": MASKS,
    "outcomes/run=none/empty.parquet": OUTCOMES,
    "relations/run=none/empty.parquet": RELATIONS,
    "tags/run=none/empty.parquet": TAGS,
    "annotations/masks/empty.parquet": ANNOTATIONS,
    "annotations/events/empty.parquet": EVENTS,
    "crops/clip=none/empty.parquet": CROPS,
}
"""Files without rows that give every view its columns and types before there is any data."""

_CLOSE = f"""
SET allowed_directories = ['{SCHEME}://'];
SET allowed_configs = ['threads', 'memory_limit'];
SET python_enable_replacements = false;
SET autoinstall_known_extensions = false;
SET autoload_known_extensions = false;
SET enable_external_access = false;
SET lock_configuration = true;
"""


class QueryError(ValueError):
    """SQL that DuckDB refuses or cannot answer; the message is one line."""


def connect(
    root: str | Path, *, filesystem: pafs.FileSystem | None = None, memory: str | None = None
) -> duckdb.DuckDBPyConnection:
    """Open a data set for SQL, with the views and macros of `views.sql`; a view without data is empty.

    Args:
        root: folder of the data set; with `filesystem`, its path there (for S3 `s3://bucket/prefix`).
        filesystem: where `root` lies when it is not local, for instance a `pyarrow.fs.S3FileSystem`.
        memory: from how much on DuckDB sorts and joins on disk ("25%", "2GB"); four fifths of the machine's by itself.

    Raises:
        ValueError: one line: there is no data set, a newer program wrote it, or it is damaged.
    """
    place = open_place(root, filesystem)
    spilled = f"{tempfile.gettempdir()}/sam-engine-{uuid.uuid4().hex}"  # DuckDB makes it when it must, and removes it
    limit = {} if memory is None else {"memory_limit": memory}
    connection = duckdb.connect(config={"temp_directory": spilled, **limit})
    sizes, merged = committed_files(place)
    keep = 0 if filesystem is None else KEPT_BYTES
    connection.register_filesystem(
        CommittedFiles(place.filesystem, place.path, sizes=sizes, built_in=_empty_files(), keep=keep)
    )
    connection.begin()  # one transaction, as each takes DuckDB's catalog a while
    _create(connection, "merged_parts", _ranges_table(merged))
    _create(connection, "run_records", records_table(RunRecord, run_records(place)))
    _create(connection, "model_records", records_table(ModelRecord, model_records(place)))
    _create(connection, "round_records", records_table(RoundRecord, round_records(place)))
    connection.execute("SET parquet_metadata_cache = true")  # views ask for the same footers again and again
    with _complaints():
        for statement in _views():
            connection.execute(statement)
    connection.commit()
    connection.execute(_CLOSE)
    return connection


def query(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    """The answer to `sql` on a connection of `connect`, whole in memory; no columns where there is nothing to answer.

    Raises:
        QueryError: DuckDB's complaint in one line.
    """
    with _complaints():
        answer = connection.sql(sql)
        return pa.table({}) if answer is None else answer.to_arrow_table()


def stream(
    connection: duckdb.DuckDBPyConnection, sql: str, *, rows: int
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]] | None:
    """The answer to `sql` as it is found, so many rows at a time; None where there is nothing to answer. The first rows
    are there when this returns.

    Raises:
        QueryError: as `query`, also when rows are asked for.
    """
    with _complaints():
        answer = connection.sql(sql)
        reader = None if answer is None else answer.to_arrow_reader(rows)
    return None if reader is None else (reader.schema, _batches(reader))


def _batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    with _complaints():
        yield from reader


@contextmanager
def _complaints() -> Iterator[None]:
    """Raises QueryError for what DuckDB, or the files that it reads, complain about."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, PermissionError, FileNotFoundError) as error:
        raise QueryError(_one_line(str(error))) from error


@cache
def _empty_files() -> dict[str, bytes]:
    return {key: to_parquet_bytes(schema.empty_table()) for key, schema in _EMPTY_TABLES.items()}


@cache
def _views() -> list[duckdb.Statement]:
    """What `views.sql` says, parsed once: that takes as long as a fifth of a connection."""
    return duckdb.extract_statements(files("schemas").joinpath("views.sql").read_text(encoding="utf-8"))


def _ranges_table(ranges: Sequence[PartRange]) -> pa.Table:
    columns = zip(*ranges, strict=True) if ranges else [()] * len(PartRange._fields)
    kinds = (pa.string(), pa.string(), pa.int64(), pa.int64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.table(dict(zip(PartRange._fields, arrays, strict=True)))


def _create(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    connection.register("incoming", table)
    connection.execute(f"CREATE TABLE {name} AS FROM incoming")
    connection.unregister("incoming")


def told_by_files(error: Exception) -> str | None:
    """Why a file that SQL reads could not be read, or what is wrong with it, in one line; None for other errors.

    DuckDB hands on what a file system in Python raises as the text of a traceback, in an error that is no OSError. This
    is for those who ask a connection itself; `query` raises QueryError.
    """
    if not isinstance(error, duckdb.Error):
        return None
    line = _one_line(str(error))
    if "Traceback" not in str(error):
        return line if f"{SCHEME}://" in line else None
    kind = getattr(builtins, said_last(str(error)).partition(":")[0], OSError)
    return line if issubclass(kind, OSError | ValueError) else None  # what is not built in is a store's error


def _one_line(message: str) -> str:
    """What DuckDB complains about, without the quoted statement; of a Python traceback what was said in the end."""
    return " ".join(without_traceback(message).split("\n\nLINE ")[0].split())
