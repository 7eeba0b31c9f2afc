"""Where images come from: folder, glob, S3 prefix, Parquet of URIs, COCO JSON, or the photographs in scikit-image.

A source yields references, never pixels. Only local paths and `s3://` are read; every other scheme is refused.
"""

from __future__ import annotations

import fnmatch
import glob
import importlib.util
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.coco import name_of_url
from workflows.images import MAX_PIXELS, byte_limit
from workflows.named_rows import require_no_bytes
from workflows.redact import redact, require_no_secrets
from workflows.sql import s3_filesystem
from workflows.storage import (
    S3_SCHEME,
    Entry,
    LocalStore,
    Store,
    StoreError,
    file_stamp,
    lies_in,
    local_path,
    open_store,
    require_size,
)

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".tif", ".tiff"),
    *(".bmp", ".ppm", ".pgm", ".pbm", ".jp2", ".j2k", ".avif"),
}
SAMPLES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
_ROWS_PER_BATCH = 4096
_MANIFEST_BYTES = 16 << 30
_LOOKED_FOR = 8
"""Pictures that say where those of a COCO JSON lie: one may be gone."""
_SHA256 = re.compile("[0-9a-f]{64}").fullmatch


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


def list_images(source: str, *, image_folder: str | None = None, denied: list[str] | None = None) -> Iterator[ImageRef]:
    """The references of a source in a fixed order, page by page.

    `image_folder` is where the pictures of a COCO JSON lie; its own folder, or `images` in it, when not given. Folders
    in a folder that may not be listed are left out, and are in `denied` once all references were taken; without it they
    raise PermissionError.
    Raises ValueError (one line) when the source is missing, empty, malformed or of an unknown kind.
    """
    references = _reader(source, image_folder, denied)(source)
    first = next(references, None)
    if first is None:
        not_seen = f"; {denied[0]} may not be listed" if denied else ""
        raise ValueError(f"{source}: no images found (looked for {' '.join(sorted(SUFFIXES))}){not_seen}")
    return itertools.chain([first], references)


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

    def _bucket(self, bucket: str) -> Store:
        if bucket not in self._stores:
            self._stores[bucket] = open_store(S3_SCHEME + bucket)
        return self._stores[bucket]


def _reader(source: str, image_folder: str | None, denied: list[str] | None) -> Callable[[str], Iterator[ImageRef]]:
    """The function that reads this kind of source."""
    remote = source.startswith(S3_SCHEME)
    require_no_secrets(source)
    if not source:
        raise ValueError("an empty source; give a folder, glob, s3://bucket/prefix, Parquet or COCO JSON")
    if "://" in source and not remote:
        raise ValueError(f"{source}: images are read from local paths and s3:// only")
    if source == "samples":
        if Path(source).is_dir():
            raise ValueError("samples: a folder of that name lies here: say ./samples for it, or go elsewhere for ours")
        return _samples
    if not remote and Path(source).is_dir():
        return lambda folder: _folder(folder, denied)
    suffix = PurePosixPath(source).suffix.lower()
    if not remote and not glob.has_magic(source) and not Path(source).exists():
        raise ValueError(f"{source}: no such folder or file")
    if suffix == ".parquet":
        return _parquet
    if suffix == ".json":
        return lambda path: _coco(path, image_folder)
    return _s3 if remote else _local_glob


def _folder(source: str, denied: list[str] | None) -> Iterator[ImageRef]:
    """Every picture in a folder, recursively."""
    store = LocalStore(source)
    return _pictures(store.root, store.list(denied=denied))


def _pictures(root: str, entries: Iterable[Entry]) -> Iterator[ImageRef]:
    """Every file with an image's ending in a listed folder or S3 prefix; hidden files are left out."""
    for entry in entries:
        if PurePosixPath(entry.key).suffix.lower() in SUFFIXES and not is_hidden(entry.key):
            yield ImageRef(address_of(root, entry.key), entry.stamp)


def _local_glob(pattern: str) -> Iterator[ImageRef]:
    """Every file that a pattern matches (`**` enters folders), or the one file of that name."""
    literal = Path(pattern).is_file()
    for match in [pattern] if literal else sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - absolute too
        path = Path(match).absolute()
        if path.is_file():
            yield _reference(address_of(str(path.parent), path.name))


def _s3(source: str) -> Iterator[ImageRef]:
    """The one object of that name, every image below that prefix, or, where none is, what it matches as a pattern."""
    if PurePosixPath(source).suffix.lower() in SUFFIXES and UriReader().exists(source):
        return iter([ImageRef(source)])
    store = open_store(source)
    below = _pictures(store.root, store.list())
    if not glob.has_magic(source):
        return below
    first = next(below, None)
    return _s3_glob(source) if first is None else itertools.chain([first], below)


def _s3_glob(pattern: str) -> Iterator[ImageRef]:
    """Every object whose whole address matches the pattern; here `*` also matches `/`, but nothing hidden."""
    fixed = pattern[: min(pattern.index(sign) for sign in "*?[" if sign in pattern)].rpartition("/")[0]
    store = open_store(fixed)
    for entry in store.list():
        uri = address_of(store.root, entry.key)
        if fnmatch.fnmatchcase(uri, pattern) and ("/." in pattern or not is_hidden(entry.key)):
            yield ImageRef(uri, entry.stamp)


def is_hidden(key: str) -> bool:
    """Whether a name on the way to an object begins with a dot, as hidden files do on disks."""
    return any(part.startswith(".") for part in key.split("/"))


def _parquet(source: str) -> Iterator[ImageRef]:
    """The column `uri` of a Parquet file, by row groups. Relative paths start at the file; `content_sha256` and `bytes`
    are taken at their word; the other columns become metadata."""
    file = open_parquet(source)
    names = file.schema_arrow.names
    if "uri" not in names:
        raise ValueError(f"{source}: no column 'uri'; the columns are {', '.join(names)}")
    require_no_bytes(source, file.schema_arrow)
    row_number = 0
    try:
        for batch in file.iter_batches(_ROWS_PER_BATCH):
            for row in batch.to_pylist():
                yield _manifest_row(source, row, row_number)
                row_number += 1
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:  # OSError is Arrow's word for damaged pages
        raise ValueError(f"{source}: not a Parquet file ({_first_line(error)})") from error


def open_parquet(source: str) -> pq.ParquetFile:
    """A Parquet file of which only the parts that are asked for are read. Raises OSError, ValueError (one line)."""
    try:
        if not source.startswith(S3_SCHEME):
            return pq.ParquetFile(source)
        folder, _, name = source.rpartition("/")
        if not open_store(folder).exists(name):  # with our own words for what is wrong
            raise FileNotFoundError(f"{source} does not exist")
        file = s3_filesystem().open_input_file(source.removeprefix(S3_SCHEME))
        return pq.ParquetFile(file, pre_buffer=False)
    except (FileNotFoundError, PermissionError, StoreError):
        raise
    except (pa.ArrowException, OSError) as error:  # OSError is Arrow's word for a damaged footer
        raise ValueError(f"{source}: not a Parquet file ({_first_line(error)})") from error


def _manifest_row(source: str, row: dict[str, Any], number: int) -> ImageRef:
    where = f"row {number}"
    uri = _listed_uri(source, row.pop("uri"), where=where)
    digest = row.get("content_sha256")
    if digest is None:
        return _reference(uri, row)
    if not isinstance(digest, str) or not _SHA256(digest):
        raise ValueError(f"{source} {where}: 'content_sha256' must be 64 hexadecimal digits, not {digest!r}")
    del row["content_sha256"]
    size = _listed_size(row.pop("bytes", None), f"{source} {where}")
    licence, metadata = describe(row) if row else ("", "")
    return ImageRef(uri, digest, licence, metadata, digest, size)


def _listed_size(value: Any, where: str) -> int | None:
    """Bytes of a file as a manifest states them: a whole number, which tables with gaps hold as float, NaN for none."""
    if value is None or value != value:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 63 and value == int(value):
        return int(value)
    raise ValueError(f"{where}: 'bytes' must be the size of the file, not {str(value)[:60]!r}")


def _coco(source: str, image_folder: str | None) -> Iterator[ImageRef]:
    """The images of a COCO JSON; id, licence, date and links become metadata."""
    data = read_manifest(source)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: not a COCO JSON ({_first_line(error)})") from error
    try:
        images = [dict(image) for image in document["images"]]
        names = [_file_name(source, image) for image in images]
        licences = {str(licence["id"]): licence["name"] for licence in document.get("licenses") or []}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{source}: not a COCO JSON with `images` that have a `file_name`") from error
    base = absolute(image_folder) if image_folder else coco_folder(absolute(source), names)
    for image, name in zip(images, names, strict=True):
        uri = address_of(base, name)
        if not uri.startswith(S3_SCHEME) and not lies_in(local_path(uri), base):
            raise ValueError(f"{source}: file_name {name!r} leaves the image folder through a symbolic link")
        licence = image.get("license")
        yield _reference(uri, image | {"license": licences.get(str(licence), licence)})


def _file_name(source: str, image: Mapping[str, Any]) -> str:
    """The place of a picture below the image folder. Raises ValueError when it is anywhere else."""
    name = image["file_name"] if "file_name" in image else name_of_url(image["coco_url"])
    if not isinstance(name, str) or not name or not _is_text(name):
        raise ValueError(f"{source}: file_name {str(name)[:60]!r} is no name of a file")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "://" in name:
        raise ValueError(f"{source}: file_name {name!r} leaves the image folder")
    return name


def read_manifest(source: str) -> bytes:
    """The bytes of a JSON file that lists images, masks or boxes. Raises OSError (one line)."""
    return UriReader(max_bytes=_MANIFEST_BYTES).read(absolute(source))


def coco_folder(source: str, names: Sequence[str]) -> str:
    """Where the pictures of a COCO JSON of this absolute address lie when nobody says: in the folder `images` beside it
    if any of the first ones is there, else beside it."""
    beside = source.rpartition("/")[0]
    inside = f"{beside}/images"
    there = UriReader().exists if source.startswith(S3_SCHEME) else stamp_of
    return inside if any(there(f"{inside}/{name}") for name in names[:_LOOKED_FOR]) else beside


def _samples(_: str) -> Iterator[ImageRef]:
    """Colour photographs that ship inside scikit-image; nothing is downloaded."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise ValueError("samples: scikit-image is not installed; pip install 'sam-data-engine[demo]'")
    store = LocalStore(Path(package.origin).parent / "data")
    found = {entry.key: entry for entry in store.list()}
    for name in SAMPLES:
        if name in found:
            yield ImageRef(address_of(store.root, name), found[name].stamp)


def _listed_uri(manifest: str, uri: Any, *, where: str) -> str:
    """A URI out of a manifest, made absolute. A remote manifest may not name files of this machine."""
    if not isinstance(uri, str) or not uri:
        raise ValueError(f"{manifest} {where}: 'uri' must be text, not {uri!r}")
    if not _is_text(uri):
        raise ValueError(f"{manifest} {where}: 'uri' must be text, not {uri[:60]!r}")
    if "://" in uri and not uri.startswith(S3_SCHEME):
        raise ValueError(f"{manifest} {where}: {redact(uri)[:200]!r} is neither a local path nor s3://")
    require_no_secrets(uri)
    if uri.startswith(S3_SCHEME):
        return uri
    if manifest.startswith(S3_SCHEME):
        raise ValueError(f"{manifest} {where}: {uri!r} is a local path, which a manifest on S3 may not name")
    return str(Path(manifest).absolute().parent / uri)


def _reference(uri: str, row: Mapping[str, Any] | None = None) -> ImageRef:
    """An image that a manifest or pattern names; the stamp is looked up for files of this machine only."""
    return ImageRef(uri, "" if uri.startswith(S3_SCHEME) else stamp_of(uri), *describe(row or {}))


def stamp_of(uri: str) -> str:
    """The stamp of a local file; none for one that is not there or cannot be looked at, which reading will say."""
    try:
        path = local_path(uri)
        return file_stamp(path) if path.is_file() else ""
    except OSError:  # a name too long for the disk, a folder without permission
        return ""


def describe(row: Mapping[str, Any]) -> tuple[str, str]:
    """Licence and metadata (JSON) of what a manifest says about an image; without secrets, and NaN as null.

    Raises ValueError when it is nested too deeply to be written down.
    """
    known = {str(name): value for name, value in row.items() if value is not None}
    licence = known.pop("licence", None) or known.pop("license", None) or ""
    try:
        text = json.dumps(_tellable(known), sort_keys=True, ensure_ascii=False, allow_nan=False)
    except RecursionError as error:
        raise ValueError("what a manifest says about an image is nested too deeply") from error
    return redact(_readable(str(licence))), _readable(text) if known else ""


def _tellable(value: Any) -> Any:
    """A value as JSON can hold it, each text in it without secrets. NaN and infinity become null, which is what they
    mean in tables."""
    if isinstance(value, Mapping):
        return {redact(str(key)): _tellable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tellable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, int | float) else redact(str(value))


def _readable(text: str) -> str:
    """Text that any table can hold: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_text(text: str) -> bool:
    return "\0" not in text and _readable(text) == text


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def absolute(address: str) -> str:
    """An address that means the same from any folder."""
    return address if address.startswith(S3_SCHEME) else str(Path(address).absolute())


def address_of(folder: str, name: str) -> str:
    """An address as text that any table can hold; bytes that are no UTF-8 are shown as escapes."""
    return f"{folder.rstrip('/')}/{name}".encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
