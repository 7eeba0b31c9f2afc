"""The index of a training source: one row per image, which says where the picture lies and either holds its masks as
COCO compressed counts or names the file that does.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from workflows.uris import ImageRef

_JOINED_AT_MOST = 1 << 30
"""Bytes of an index that is hashed as one piece; from 2 GiB of outlines on Arrow cannot join them."""
_ROWS_JOINED = 4096

INDEX = pa.schema(
    [
        pa.field("uris", pa.list_(pa.string())),  # where the picture lies; the first that is there is read
        pa.field("image_id", pa.string()),  # what a data set knows it by, and what its bytes must give; null elsewhere
        pa.field("masks_uri", pa.string()),  # an SA-1B JSON or a label PNG; null where `rles` holds the masks
        pa.field("height", pa.int32()),  # of the masks, px; null where the file says
        pa.field("width", pa.int32()),
        pa.field("rles", pa.list_(pa.binary())),
        pa.field("vectors", pa.list_(pa.list_(pa.binary()))),  # float16 embeddings of each mask's crops, for text
        pa.field("stamp", pa.string()),  # changes with the files that are named; null where their content is known
    ]
)


def index_table(columns: Mapping[str, Any], rows: int) -> pa.Table:
    """A table of INDEX; columns that are not given are null."""
    return pa.table({each.name: columns.get(each.name, pa.nulls(rows, each.type)) for each in INDEX}).cast(INDEX)


def index_row(
    uris: list[str],
    *,
    masks_uri: str | None = None,
    height: int | None = None,
    width: int | None = None,
    rles: list[bytes] | None = None,
    image_id: str | None = None,
    stamp: str | None = None,
) -> dict[str, Any]:
    """A row of INDEX; what is not given is null, and so are vectors, which tables alone have."""
    named = {"uris": uris, "image_id": image_id, "masks_uri": masks_uri, "stamp": stamp}
    return {**named, "height": height, "width": width, "rles": rles}


def bare_row(reference: ImageRef) -> dict[str, Any]:
    """The row of a picture without masks."""
    return index_row([reference.uri], stamp=reference.stamp)


def index_sha256(index: pa.Table) -> str:
    """Of the rows, in however many pieces they lie."""
    digest = _Digest()
    for part in [index.combine_chunks()] if index.nbytes <= _JOINED_AT_MOST else _built_anew(index):
        with pa.ipc.new_stream(pa.PythonFile(digest, "w"), index.schema) as writer:
            writer.write_table(part)
    return digest.found.hexdigest()


def _built_anew(index: pa.Table) -> Iterator[pa.Table]:
    """The rows, some at a time, as tables that hold nothing else: a slice is written otherwise than a copy of it."""
    for start in range(0, len(index), _ROWS_JOINED):
        rows = index.slice(start, _ROWS_JOINED).combine_chunks()
        yield rows.take(pa.array(range(len(rows))))


class _Digest(io.RawIOBase):
    """A file that nobody can read again, for its hash."""

    def __init__(self) -> None:
        self.found = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.found.update(data)
        return len(data)
