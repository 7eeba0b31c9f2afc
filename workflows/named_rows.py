"""Tables that say something about images, a row each: found by the image that they name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from workflows.storage import S3_SCHEME
from workflows.uris import full_address, read_manifest

_KEYS = ("uri", "file_name")


class NamedRows:
    """The rows of a CSV or Parquet file by URI, or by file name with as much of the path before it as it takes.

    table: all rows. key: the column that names images. names: what it says, by row, without the `./` that `find` writes
    before a file's.

    Raises ValueError (one line) when the file is neither, or has no such column.
    """

    def __init__(self, path: str) -> None:
        self.table = read_table(path)
        found = next((name for name in _KEYS if name in self.table.column_names), None)
        if found is None:
            raise ValueError(
                f"{path}: no column 'uri' or 'file_name'; the columns are {', '.join(self.table.column_names)}"
            )
        self.key = found
        texts = ("" if name is None else str(name) for name in self.table[found].to_pylist())
        self.names = [full_address(name) if found == "uri" else name.removeprefix("./") for name in texts]
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(self.names):
            self._by_name[name].append(number)

    def find(self, uri: str) -> list[int]:
        """Numbers of the rows that name an image, in order."""
        return sorted(number for name in _endings(full_address(uri)) for number in self._by_name.get(name, ()))


def read_table(path: str) -> pa.Table:
    """A CSV or Parquet file; all that a CSV says is text, as it stands there, and null where a cell is empty.

    Raises ValueError (one line) when it is neither, or a CSV that is no UTF-8, or has a column of bytes; OSError when
    it cannot be read.
    """
    if not path.startswith(S3_SCHEME) and not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    data = pa.py_buffer(read_manifest(path))
    try:
        table = pq.read_table(pa.BufferReader(data)) if path.endswith(".parquet") else _read_csv(data)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in reason:
            raise ValueError(f"{path}: the text is no UTF-8 ({reason}); save it as UTF-8") from error
        raise ValueError(f"{path}: neither CSV nor Parquet ({reason})") from error
    require_no_bytes(path, table.schema)
    return table


def require_no_bytes(path: str, schema: pa.Schema) -> None:
    """Raise ValueError where a column has bytes in it, such as pictures: they would become text that nobody can use."""
    for field in schema:
        if _holds_bytes(field.type):
            raise ValueError(f"{path}: column {field.name!r} holds bytes, which are no text; leave it out")


def _read_csv(data: pa.Buffer) -> pa.Table:
    with pyarrow.csv.open_csv(pa.BufferReader(data)) as reader:
        names = reader.schema.names
    texts = dict.fromkeys(names, pa.string())
    as_it_stands = pyarrow.csv.ConvertOptions(column_types=texts, null_values=[""], strings_can_be_null=True)
    return pyarrow.csv.read_csv(pa.BufferReader(data), convert_options=as_it_stands)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return any(found(kind) for found in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary))


def _endings(uri: str) -> Iterator[str]:
    """An address, and what follows each `/` in it: every name that it may go by, however many files have its last."""
    yield uri
    while "/" in uri:
        uri = uri.partition("/")[2]
        yield uri
