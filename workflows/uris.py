"""What names an image, and the bytes behind the name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from workflows.image_limits import MAX_PIXELS, byte_limit
from workflows.storage import S3_SCHEME, Store, file_stamp, local_path, open_store, require_size

_MANIFEST_BYTES = 16 << 30


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image of a source. `uri` is an absolute local path or `s3://bucket/key`.

    `stamp` changes with the content, "" where the source cannot tell. `licence` is as the source names it; `metadata`
    is whatever else it says, a JSON object; both "" for none. `content_sha256` (hexadecimal) and `bytes` are there when
    the source states them, and then the image need not be read to be noted.
    """

    uri: str
    stamp: str = ""
    licence: str = ""
    metadata: str = ""
    content_sha256: str = ""
    bytes: int | None = None


class UriReader:
    """Reads what ImageRef.uri names; one client per bucket. Safe to use from several threads.

    Larger files than `max_bytes` are refused before they are read.
    """

    def __init__(self, *, max_bytes: int = byte_limit(MAX_PIXELS)) -> None:
        self._max_bytes = max_bytes
        self._stores: dict[str, Store] = {}

    def read(self, uri: str) -> bytes:
        """The bytes behind a URI. Raises OSError when it cannot be read or is no regular file, and TooLargeError."""
        if not uri.startswith(S3_SCHEME):
            path = local_path(uri)
            if not path.is_file():
                raise FileNotFoundError(f"{uri}: no such file")
            require_size(path.stat().st_size, self._max_bytes)
            return path.read_bytes()
        bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
        return self._bucket(bucket).get(key, at_most=self._max_bytes)

    def size(self, uri: str) -> int | None:
        """Bytes of a local file; None where only reading can tell."""
        path = local_path(uri)
        return path.stat().st_size if not uri.startswith(S3_SCHEME) and path.is_file() else None

    def exists(self, uri: str) -> bool:
        """Whether a URI names a file or object."""
        if not uri.startswith(S3_SCHEME):
            return local_path(uri).is_file()
        bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
        return self._bucket(bucket).exists(key)

    def may_be_read(self, uri: str) -> bool:
        """As `exists`, but a file or object that is refused is as one that is not there."""
        try:
            return self.exists(uri)
        except PermissionError:
            return False

    def _bucket(self, bucket: str) -> Store:
        if bucket not in self._stores:
            self._stores[bucket] = open_store(S3_SCHEME + bucket)
        return self._stores[bucket]


def stamp_of(uri: str) -> str:
    """The stamp of a local file; none for one that is not there or cannot be looked at, which reading will say."""
    try:
        path = local_path(uri)
        return file_stamp(path) if path.is_file() else ""
    except OSError:  # a name too long for the disk, a folder without permission
        return ""


def absolute(address: str) -> str:
    """An address that means the same from any folder."""
    return address if address.startswith(S3_SCHEME) else str(Path(address).absolute())


def full_address(uri: str) -> str:
    """A URI as only one spelling of it is: absolute, without `..`."""
    return uri if uri.startswith(S3_SCHEME) else os.path.normpath(Path(uri).absolute())


def read_manifest(source: str) -> bytes:
    """The bytes of a file that lists images, masks or boxes. Raises OSError (one line)."""
    return UriReader(max_bytes=_MANIFEST_BYTES).read(absolute(source))


def address_of(folder: str, name: str) -> str:
    """An address as text that any table can hold; bytes that are no UTF-8 are shown as escapes."""
    return f"{folder.rstrip('/')}/{name}".encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
