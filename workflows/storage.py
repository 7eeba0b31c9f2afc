"""Where a data set lies: a local folder or an S3 prefix behind one small interface of whole objects."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from workflows.patience import patience_of
from workflows.redact import require_no_secrets

S3_SCHEME = "s3://"
_COPIED_AT_ONCE = 1 << 20
_ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f])")
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class StoreError(OSError):
    """A store refused or could not be reached; the message is one line that says what, where and why."""


class TooLargeError(OSError):
    """An object of more bytes than the reader wants; none of them was read."""


class Entry(NamedTuple):
    """One object of a listing. `stamp` changes when the content does (size and time locally, the ETag on S3)."""

    key: str
    stamp: str


class Store(Protocol):
    """Objects under a root, named by relative keys with `/`. Writes are atomic: an object is whole or absent.

    A missing object raises FileNotFoundError; any other failure raises an OSError with one clear line.
    """

    root: str

    def get(self, key: str, *, at_most: int | None = None) -> bytes:
        """The bytes of an object. Raises TooLargeError above `at_most` bytes."""

    def put(self, key: str, data: bytes) -> None:
        """Write a whole object, replacing what the key held."""

    def put_file(self, key: str, path: Path) -> None:
        """`put` of what a local file holds, which never is in memory as a whole."""

    def put_if_absent(self, key: str, data: bytes) -> bytes:
        """Write unless the key exists; return the bytes that it holds now, which tells every writer who won."""

    def exists(self, key: str) -> bool:
        """Whether the key holds an object."""

    def list(self, folder: str = "") -> Iterator[Entry]:
        """Every object under a folder (recursively) in the order of names, without holding the listing."""

    def delete(self, key: str) -> None:
        """Remove an object; no error when it is not there."""


class LocalStore:
    """A folder. Atomic by temporary file, fsync, rename, and fsync of the folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = str(Path(root).absolute())

    def get(self, key: str, *, at_most: int | None = None) -> bytes:
        with self._path(key).open("rb") as file:
            require_size(os.fstat(file.fileno()).st_size, at_most)
            return file.read()

    def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        _rename(_write_beside(path, data), path)

    def put_file(self, key: str, path: Path) -> None:
        place = self._path(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        _rename(_copy_beside(place, path), place)

    def put_if_absent(self, key: str, data: bytes) -> bytes:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _write_beside(path, data)
        try:
            _link_if_absent(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return path.read_bytes()

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, folder: str = "", *, denied: MutableSequence[str] | None = None) -> Iterator[Entry]:
        """As Store.list. Folders below that may not be listed are left out and noted in `denied`, where that is given;
        else they raise PermissionError."""
        path = self._path(folder) if folder else Path(self.root)
        if path.is_dir():
            yield from _walk(str(path), os.path.relpath(path, self.root), denied)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"key {key!r} would leave {self.root}")
        path = Path(self.root, key)
        if not lies_in(path.parent, self.root):
            raise ValueError(f"key {key!r} would leave {self.root} through a symbolic link")
        return path


def _write_beside(path: Path, data: bytes) -> Path:
    """Write and fsync a hidden temporary file in the folder of `path`; nothing stays behind on failure."""
    return _beside(path, lambda file: file.write(data))


def _copy_beside(path: Path, source: Path) -> Path:
    """As `_write_beside`, with what another file holds."""
    with source.open("rb") as read:
        return _beside(path, lambda file: shutil.copyfileobj(read, file, _COPIED_AT_ONCE))


def _beside(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:  # Ctrl-C and SIGTERM, too: a file may be large, and nobody looks for hidden ones
        with suppress(OSError):  # on a read-only disk not even what is not there can be removed
            temporary.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a full disk does not say where it is full, and nobody knows the hidden name
        raise
    return temporary


def _rename(temporary: Path, path: Path) -> None:
    """Give a temporary file its name, whoever has it now."""
    try:
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder; give the name of a file", str(path)) from error
        raise
    _sync_folder(path.parent)


def _link_if_absent(temporary: Path, path: Path) -> None:
    """Give the temporary file its name unless the name is taken.

    Where the disk has no hard links: look, rename, and wait, so that two writers at once read who came last.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if not path.exists():
            temporary.replace(path)
            time.sleep(patience_of().settle_seconds)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(folder: str, prefix: str, denied: MutableSequence[str] | None) -> Iterator[Entry]:
    """Files under a folder, one folder in memory at a time.

    Hidden names (temporary files among them) are left out and linked folders are not entered, since links can circle.
    What is gone by the time that it is looked at was not there.
    """
    try:
        with os.scandir(folder) as entries:
            visible = sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
    except FileNotFoundError:
        return
    except PermissionError:
        if denied is None or prefix == ".":
            raise
        denied.append(folder)
        return
    for entry in visible:
        key = entry.name if prefix == "." else f"{prefix}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, key, denied)
        elif stamp := _stamp_if_there(entry):
            yield Entry(key, stamp)


def _stamp_if_there(entry: os.DirEntry[str]) -> str | None:
    """None for what is no file: a folder, a pipe, a link that leads nowhere, or back to itself."""
    try:
        return file_stamp(entry.path) if entry.is_file() else None
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise


def write_file(path: str, data: bytes) -> None:
    """Write one file, whole or not at all: a local path, or s3://bucket/key.

    A link stays one: what it leads to is written. What is neither file nor folder, as /dev/null or a pipe, gets the
    bytes, for another file may not take its name. Raises OSError.
    """
    folder, _, name = path.rpartition("/")
    if not name or f"{folder}/" == S3_SCHEME:
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the name of a file", path)
    if path.startswith(S3_SCHEME):
        open_store(folder).put(name, data)
        return
    place = Path(os.path.realpath(path))
    if Path(path).exists() and not place.is_file() and not place.is_dir():
        Path(path).write_bytes(data)
    else:
        LocalStore(place.parent).put(place.name, data)


def split_place(text: str) -> tuple[str, str]:
    """PLACE@TABLE as place and table, "" where none is named; folders above the last may have an @ in their names."""
    folder, slash, last = text.rpartition("/")
    name, _, table = last.partition("@")
    return f"{folder}{slash}{name}", table


def lies_in(place: str | Path, folder: str | Path) -> bool:
    """Whether a local path or S3 address is a folder, or lies in it, when all symbolic links are followed."""
    return _followed(str(place)).startswith(_followed(str(folder)))


def _followed(place: str) -> str:
    """A place with a `/` behind it, local ones as what their links lead to."""
    real = place if place.startswith(S3_SCHEME) else os.path.realpath(place)
    return f"{real.rstrip('/')}/"


def require_size(size: int, at_most: int | None) -> None:
    """Raise TooLargeError when an object of so many bytes is not wanted."""
    if at_most is not None and size > at_most:
        raise TooLargeError(f"{size:,} bytes are more than the limit of {at_most:,} bytes")


def local_path(uri: str) -> Path:
    """The file that an address names. Bytes of a name that are no UTF-8 stand in it as escapes (`caf\\xe9.png`)."""
    path = Path(uri)
    if "\\x" in uri and not os.path.lexists(path):
        path = Path(os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), uri.encode())))
    return path


def file_stamp(path: str | Path) -> str:
    """A short text that changes when a local file does: its size and the time it was written."""
    status = Path(path).stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def open_store(root: str | Path) -> Store:
    """A store for a local path or `s3://bucket/prefix`; ValueError for any other scheme."""
    text = str(root)
    require_no_secrets(text)
    if not text:
        raise ValueError("an empty path names no folder; give a local one or s3://bucket/prefix")
    if text.startswith(S3_SCHEME):
        from workflows.s3 import S3Store

        return S3Store(text)
    if "://" in text:
        raise ValueError(f"{text}: a data set is a local folder or s3://bucket/prefix")
    return LocalStore(text)
