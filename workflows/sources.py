"""Where images come from: folder, glob, S3 prefix, Parquet of URIs, COCO JSON, or the photographs in scikit-image.

A source yields references, never pixels. Only local paths and `s3://` are read; every other scheme is refused.
"""

from __future__ import annotations

import fnmatch
import glob
import importlib.util
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workflows.storage import S3_SCHEME, LocalStore, Store, file_stamp, open_store

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


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image of a source. `uri` is an absolute local path or `s3://bucket/key`.

    `stamp` changes with the content, "" where the source cannot tell. `licence` is as the source names it; `metadata`
    is whatever else it says, a JSON object; both "" for none.
    """

    uri: str
    stamp: str = ""
    licence: str = ""
    metadata: str = ""


def list_images(source: str, *, image_folder: str | None = None) -> Iterator[ImageRef]:
    """The references of a source in a fixed order, page by page.

    `image_folder` is where the pictures of a COCO JSON lie; its own folder, or `images` in it, when not given.
    Raises ValueError (one line) when the source is missing, empty, malformed or of an unknown kind.
    """
    references = _reader(source, image_folder)(source)
    first = next(references, None)
    if first is None:
        raise ValueError(f"{source}: no images found (looked for {' '.join(sorted(SUFFIXES))})")
    return itertools.chain([first], references)


class UriReader:
    """Reads what ImageRef.uri names; one client per bucket. Safe to use from several threads."""

    def __init__(self) -> None:
        self._stores: dict[str, Store] = {}

    def read(self, uri: str) -> bytes:
        """The bytes behind a URI. Raises OSError when it cannot be read or is no regular file."""
        if not uri.startswith(S3_SCHEME):
            path = Path(uri)
            if not path.is_file():
                raise FileNotFoundError(f"{uri}: no such file")
            return path.read_bytes()
        bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
        return self._bucket(bucket).get(key)

    def exists(self, uri: str) -> bool:
        """Whether a URI names a file or object."""
        if not uri.startswith(S3_SCHEME):
            return Path(uri).is_file()
        bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
        return self._bucket(bucket).exists(key)

    def _bucket(self, bucket: str) -> Store:
        if bucket not in self._stores:
            self._stores[bucket] = open_store(S3_SCHEME + bucket)
        return self._stores[bucket]


def _reader(source: str, image_folder: str | None) -> Callable[[str], Iterator[ImageRef]]:
    """The function that reads this kind of source."""
    remote = source.startswith(S3_SCHEME)
    if "://" in source and not remote:
        raise ValueError(f"{source}: images are read from local paths and s3:// only")
    if source == "samples":
        return _samples
    if not remote and Path(source).is_dir():
        return _folder
    suffix = PurePosixPath(source).suffix.lower()
    if not remote and not glob.has_magic(source) and not Path(source).exists():
        raise ValueError(f"{source}: no such folder or file")
    if suffix == ".parquet":
        return _parquet
    if suffix == ".json":
        return lambda path: _coco(path, image_folder)
    if remote:
        return _s3_glob if glob.has_magic(source) else _folder
    return _local_glob


def _folder(source: str) -> Iterator[ImageRef]:
    """Every file with an image's ending in a folder or S3 prefix, recursively; hidden files are left out."""
    store = open_store(source)
    for entry in store.list():
        if PurePosixPath(entry.key).suffix.lower() in SUFFIXES:
            yield ImageRef(_join(store.root, entry.key), entry.stamp)


def _local_glob(pattern: str) -> Iterator[ImageRef]:
    """Every file that a pattern matches (`**` enters folders), or the one file of that name."""
    literal = Path(pattern).is_file()
    for match in [pattern] if literal else sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - absolute too
        path = Path(match).absolute()
        if path.is_file():
            yield _reference(_join(str(path.parent), path.name))


def _s3_glob(pattern: str) -> Iterator[ImageRef]:
    """Every object whose whole address matches the pattern; here `*` also matches `/`."""
    fixed = pattern[: min(pattern.index(sign) for sign in "*?[" if sign in pattern)].rpartition("/")[0]
    store = open_store(fixed)
    for entry in store.list():
        uri = _join(store.root, entry.key)
        if fnmatch.fnmatchcase(uri, pattern):
            yield ImageRef(uri, entry.stamp)


def _parquet(source: str) -> Iterator[ImageRef]:
    """The column `uri` of a Parquet file; the other columns become metadata. Relative paths start at the file."""
    try:
        file = pq.ParquetFile(pa.BufferReader(UriReader().read(_absolute(source))))
    except pa.ArrowException as error:
        raise ValueError(f"{source}: not a Parquet file ({str(error).splitlines()[0]})") from error
    names = file.schema_arrow.names
    if "uri" not in names:
        raise ValueError(f"{source}: no column 'uri'; the columns are {', '.join(names)}")
    row_number = 0
    for batch in file.iter_batches(_ROWS_PER_BATCH):
        for row in batch.to_pylist():
            uri = _listed_uri(source, row.pop("uri"), where=f"row {row_number}")
            yield _reference(uri, row)
            row_number += 1


def _coco(source: str, image_folder: str | None) -> Iterator[ImageRef]:
    """The images of a COCO JSON; id, licence, date and links become metadata."""
    try:
        document = json.loads(UriReader().read(_absolute(source)))
        images = document["images"]
        names = [image["file_name"] for image in images]
        licences = {licence["id"]: licence["name"] for licence in document.get("licenses", [])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{source}: not a COCO JSON with `images` that have a `file_name`") from error
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "://" in name:
            raise ValueError(f"{source}: file_name {name!r} leaves the image folder")
    base = _absolute(image_folder) if image_folder else _coco_folder(_absolute(source), names)
    for image, name in zip(images, names, strict=True):
        licence = licences.get(image.get("license"), image.get("license"))
        yield _reference(_join(base, name), image | {"license": licence})


def _coco_folder(source: str, names: list[str]) -> str:
    """Where the pictures lie when nobody says: the folder `images` beside the JSON if the first one is there."""
    beside = source.rpartition("/")[0]
    inside = f"{beside}/images"
    return inside if names and open_store(inside).exists(names[0]) else beside


def _samples(_: str) -> Iterator[ImageRef]:
    """Colour photographs that ship inside scikit-image; nothing is downloaded."""
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise ValueError("samples: scikit-image is not installed; pip install 'sam-data-engine[demo]'")
    store = LocalStore(Path(package.origin).parent / "data")
    found = {entry.key: entry for entry in store.list()}
    for name in SAMPLES:
        if name in found:
            yield ImageRef(_join(store.root, name), found[name].stamp)


def _listed_uri(manifest: str, uri: Any, *, where: str) -> str:
    """A URI out of a manifest, made absolute. A remote manifest may not name files of this machine."""
    if not isinstance(uri, str) or not uri:
        raise ValueError(f"{manifest} {where}: 'uri' must be text, not {uri!r}")
    if uri.startswith(S3_SCHEME):
        return uri
    if "://" in uri:
        raise ValueError(f"{manifest} {where}: {uri!r} is neither a local path nor s3://")
    if manifest.startswith(S3_SCHEME):
        raise ValueError(f"{manifest} {where}: {uri!r} is a local path, which a manifest on S3 may not name")
    return str(Path(manifest).absolute().parent / uri)


def _reference(uri: str, row: Mapping[str, Any] | None = None) -> ImageRef:
    """An image that a manifest or pattern names; the stamp is looked up for files of this machine only."""
    stamp = "" if uri.startswith(S3_SCHEME) or not Path(uri).is_file() else file_stamp(uri)
    return ImageRef(uri, stamp, *describe(row or {}))


def describe(row: Mapping[str, Any]) -> tuple[str, str]:
    """Licence and metadata (JSON) of what a manifest says about an image."""
    known = {name: value for name, value in row.items() if value is not None}
    licence = known.pop("licence", None) or known.pop("license", None) or ""
    return str(licence), json.dumps(known, sort_keys=True, default=str, ensure_ascii=False) if known else ""


def _absolute(address: str) -> str:
    return address if address.startswith(S3_SCHEME) else str(Path(address).absolute())


def _join(folder: str, name: str) -> str:
    """An address as text that any table can hold; bytes that are no UTF-8 are shown as escapes."""
    return f"{folder.rstrip('/')}/{name}".encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
