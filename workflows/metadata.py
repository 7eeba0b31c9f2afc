"""What a separate file says about images, joined to them by URI or by file name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from workflows.sources import ImageRef, describe
from workflows.storage import S3_SCHEME

_KEYS = ("uri", "file_name")


def add_metadata(references: Iterable[ImageRef], path: str) -> Iterator[ImageRef]:
    """The references, with what a CSV or Parquet file says about them; its column `uri` or `file_name` names them.

    Raises ValueError (one line) when the file is neither, or has no such column.
    """
    return _joined(references, _rows_by_name(path))


def _joined(references: Iterable[ImageRef], rows: dict[str, dict[str, Any]]) -> Iterator[ImageRef]:
    for reference in references:
        row = rows.get(reference.uri) or rows.get(PurePosixPath(reference.uri).name)
        if row is None:
            yield reference
            continue
        known = json.loads(reference.metadata) if reference.metadata else {}
        licence, metadata = describe(known | row)
        yield replace(reference, licence=licence or reference.licence, metadata=metadata)


def _rows_by_name(path: str) -> dict[str, dict[str, Any]]:
    table = read_table(path)
    key = next((name for name in _KEYS if name in table.column_names), None)
    if key is None:
        raise ValueError(f"{path}: no column 'uri' or 'file_name'; the columns are {', '.join(table.column_names)}")
    rows = table.to_pylist()
    return {_full(str(row.pop(key))) if key == "uri" else str(row.pop(key)): row for row in rows}


def read_table(path: str) -> pa.Table:
    """A CSV or Parquet file. Raises ValueError (one line) when it is neither."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        return pq.read_table(path) if path.endswith(".parquet") else pyarrow.csv.read_csv(path)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: neither CSV nor Parquet ({str(error).splitlines()[0]})") from error


def _full(uri: str) -> str:
    return uri if uri.startswith(S3_SCHEME) else str(Path(uri).absolute())
