"""The only files that SQL can see: those of one data set that are committed, and for reading alone.

DuckDB gets them as a file system of its own, `dataset://KEY`, with all other access switched off. That makes a local
folder and an object store the same to it, keeps its Parquet reader with row-group statistics and late reading of
columns (one image of 10 million masks: 0.15 s, against 0.65 s through a pyarrow dataset), and makes writing
impossible where a statement filter would have to foresee every syntax. Whole scans cost 1.5 times the CPU of direct
local access.

To open a file costs DuckDB half a millisecond even when it needs none of its rows. A pattern may therefore name an
image, or the first and the last of several, behind a `#`: then only files that may hold rows of them are there (one
image of 100 million masks in 100 files: a quarter of the time).
"""

import fnmatch
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.fs as pafs
from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

from schemas.image_spans import FilesByImage, ImageSpan, read_span
from schemas.place_errors import naming

SCHEME = "dataset"
OF_IMAGE = "#"
"""Between a pattern and the beginning of an image id."""
TO_IMAGE = "-"
"""Between that and the beginning of the last one, where a row of images is meant."""

KEPT_BYTES = 64 << 20
"""Of small files, by one connection to an object store."""
SMALL_BYTES = 256 << 10
"""A file up to this size is sooner read whole than asked for again: the outcomes of a shard, what annotators saved."""

_FOOTERS_AT_ONCE = 16
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class _Placed(Protocol):
    def size(self) -> int: ...
    def read_at(self, nbytes: int, offset: int) -> bytes: ...
    def close(self) -> None: ...


class CommittedFiles(AbstractFileSystem):  # type: ignore[misc]
    """Committed files of a data set, read-only, as they were listed once.

    Args:
        filesystem: where the data set lies.
        root: its path there.
        sizes: key of each committed file to its size in bytes.
        built_in: further files, key to content; listed first, so that they give a table its types when nothing
            else does.
        keep: bytes of small files that are kept once they are read, the first ones that are. DuckDB opens a file twice
            for the first query and once for each later one, and in an object store that is two requests every time.
    """

    protocol = SCHEME
    cachable = False

    def __init__(
        self,
        filesystem: pafs.FileSystem,
        root: str,
        *,
        sizes: Mapping[str, int],
        built_in: Mapping[str, bytes],
        keep: int = 0,
    ) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._root = root
        self._built_in = built_in
        self._at_hand = dict(built_in)
        self._room = keep
        self._lock = threading.Lock()
        self._sizes = {key: len(data) for key, data in built_in.items()} | dict(sizes)
        self._by_image: dict[str, FilesByImage] = {}  # by pattern, filled when an image is first asked for

    def glob(self, path: str, **_: Any) -> list[str]:
        """Keys that match PATTERN, PATTERN#IMAGE or PATTERN#FIRST-LAST, built-in ones first, the rest in order; `*`
        spans folders, too.

        With the beginning of an image id, or of the first and the last one of a row of images: of the Parquet files
        that match, those that may hold rows of such images.
        """
        pattern, _hash, image = _key(path).partition(OF_IMAGE)
        if image:
            first, _to, last = image.partition(TO_IMAGE)
            found = fnmatch.filter(self._built_in, pattern) + self._matching(pattern).holding(first, last or first)
        else:
            found = fnmatch.filter(self._sizes, pattern)
        return sorted(found, key=lambda key: (key not in self._built_in, key))

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name and size (bytes) of a committed file."""
        return {"name": _key(path), "size": self._size(_key(path)), "type": "file"}

    def modified(self, path: str) -> datetime:
        """The same for every file: committed files do not change."""
        return _LONG_AGO

    def open(self, path: str, mode: str = "rb", **_: Any) -> "_File":
        """A committed file for reading.

        Raises:
            PermissionError: `mode` asks to write.
            FileNotFoundError: the key is not a committed file of this data set, or, at the first read, is another one
                by now.
        """
        key = _key(path)
        if mode != "rb":
            raise PermissionError(f"{key}: SQL only reads a data set, it does not write")
        self._size(key)
        return _File(key, lambda: self._open_listed(key))

    def _open_listed(self, key: str) -> pa.NativeFile:
        """A file as it was listed. What derives from masks (relations, tags) is replaced under the same names, and the
        footer that DuckDB has read of one is none of the other's.

        Raises:
            FileNotFoundError: another one has taken its place.
        """
        if key in self._at_hand:
            return pa.BufferReader(self._at_hand[key])
        file = self._filesystem.open_input_file(f"{self._root}/{key}")
        if file.size() != self._sizes[key]:
            file.close()
            raise FileNotFoundError(f"{key}: another command has written it anew just now; ask again")
        if self._sizes[key] > min(SMALL_BYTES, self._room):
            return file
        with file:
            return pa.BufferReader(self._kept(key, file.read()))

    def _kept(self, key: str, data: bytes) -> bytes:
        """The bytes of a file, at hand from now on if there is room; threads may have read it side by side."""
        with self._lock:
            if key not in self._at_hand and len(data) <= self._room:
                self._at_hand[key] = data
                self._room -= len(data)
        return data

    def _matching(self, pattern: str) -> FilesByImage:
        """Those that match, but for built-in ones. Their footers are read once, side by side: in an object store each
        is a request."""
        if pattern not in self._by_image:
            keys = [key for key in fnmatch.filter(self._sizes, pattern) if key not in self._built_in]
            with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
                spans = dict(zip(keys, pool.map(self._span, keys), strict=True))
            self._by_image[pattern] = FilesByImage(spans)
        return self._by_image[pattern]

    def _span(self, key: str) -> ImageSpan:
        with naming(key), self._open_listed(key) as file:
            try:
                return read_span(file)
            except pa.ArrowInvalid as error:
                raise ValueError(f"{key}: not a whole Parquet file: {error}") from error

    def _size(self, key: str) -> int:
        if key not in self._sizes:
            raise FileNotFoundError(f"{key}: not a committed file of this data set")
        return self._sizes[key]


class _File:
    """A file opened at its first read: DuckDB opens each twice, and over S3 every opening is a request.

    DuckDB's threads share it, and each seeks before it reads. Where a thread seeks is therefore its own, and bytes are
    read by place: with one position for all, a thread would read where another one meant to.
    """

    __slots__ = ("_file", "_key", "_lock", "_mine", "_open")

    def __init__(self, key: str, open_file: Callable[[], _Placed]) -> None:
        self._key = key
        self._open = open_file
        self._file: _Placed | None = None
        self._lock = threading.Lock()
        self._mine = threading.local()

    def read(self, size: int = -1) -> bytes:
        """So many bytes from where this thread is, all by default. Raises OSError, which names the file."""
        position = getattr(self._mine, "position", 0)
        with naming(self._key):
            file = self._opened()
            data = file.read_at(file.size() - position if size < 0 else size, position)
        self._mine.position = position + len(data)
        return data

    def _opened(self) -> _Placed:
        with self._lock:
            if self._file is None:
                self._file = self._open()
            return self._file

    def seek(self, position: int) -> int:
        self._mine.position = position
        return position

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _key(path: str) -> str:
    return path.removeprefix(f"{SCHEME}://")
