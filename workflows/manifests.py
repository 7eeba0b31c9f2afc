"""Lists of images in one file: a Parquet manifest with a column `uri`, or a COCO JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.coco import name_of_url
from schemas.json_fields import JsonObject, NoObjectError
from schemas.json_stream import read_object
from workflows.failures import first_line
from workflows.named_rows import require_no_bytes
from workflows.redact import redact, require_no_secrets
from workflows.sql import s3_filesystem
from workflows.storage import S3_SCHEME, StoreError, lies_in, local_path, open_store
from workflows.uris import ImageRef, UriReader, absolute, address_of, read_manifest, stamp_of

_ROWS_PER_BATCH = 4096
_LOOKED_FOR = 8
"""Pictures that say where those of a COCO JSON lie: one may be gone."""
_SHA256 = re.compile("[0-9a-fA-F]{64}").fullmatch


def parquet_images(source: str) -> Iterator[ImageRef]:
    """The column `uri` of a Parquet file, by row groups. Relative paths start at the file; `content_sha256` and `bytes`
    are taken at their word; the other columns become metadata. Raises OSError, ValueError (one line)."""
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
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise _unreadable(source, error) from error


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
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: str, error: Exception) -> ValueError | StoreError:
    """Why a Parquet file cannot be read: OSError is Arrow's word for a damaged footer or page, and for a failing S3."""
    line = first_line(error)
    if "AWS Error" in line:
        return StoreError(f"cannot read {source}: {line}")
    return ValueError(f"{source}: not a Parquet file ({line})")


def _manifest_row(source: str, row: dict[str, Any], number: int) -> ImageRef:
    where = f"row {number}"
    uri = _listed_uri(source, row.pop("uri"), where=where)
    digest = row.get("content_sha256")
    if digest is None:
        return _reference(uri, row)
    if not isinstance(digest, str) or not _SHA256(digest):
        raise ValueError(f"{source} {where}: 'content_sha256' must be 64 hexadecimal digits, not {digest!r}")
    digest = row.pop("content_sha256").lower()
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


def coco_images(source: str, image_folder: str | None) -> Iterator[ImageRef]:
    """The images of a COCO JSON; id, licence, date and links become metadata. Raises OSError, ValueError (one line)."""
    images, licences = _coco_listing(source)
    if image_folder and not image_folder.startswith(S3_SCHEME) and not Path(image_folder).is_dir():
        raise ValueError(f"--image-folder {image_folder}: no such folder")
    beside = [name for name, _ in images[:_LOOKED_FOR]]
    base = absolute(image_folder) if image_folder else coco_folder(absolute(source), beside)
    for name, said in images:
        uri = address_of(base, name)
        if not uri.startswith(S3_SCHEME) and not lies_in(local_path(uri), base):
            raise ValueError(f"{source}: file_name {name!r} leaves the image folder through a symbolic link")
        image = json.loads(said)
        licence = image.get("license")
        yield _reference(uri, image | {"license": licences.get(str(licence), licence)})


def _coco_listing(source: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Name and entry of each image of a COCO JSON, the entry as text, which takes a fifth of the memory; and the
    licences by their ids. Of masks, which may be a thousand times as much, nothing is kept."""

    def image(entry: JsonObject) -> tuple[str, str]:
        return _file_name(source, entry.values), json.dumps(entry.values)

    try:
        root = read_object(read_manifest(source), source, {"images": image, "annotations": lambda _: None})
        images = cast(list[tuple[str, str]], root.items("images"))
        licences = cast(list[dict[str, Any]], root.values.get("licenses") or [])
        return images, {str(licence["id"]): licence["name"] for licence in licences}
    except NoObjectError as error:
        raise ValueError(f"{source}: not a COCO JSON ({str(error).removeprefix(source).lstrip(': ')})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{source}: not a COCO JSON with `images` that have a `file_name`") from error


def _file_name(source: str, image: Mapping[str, Any]) -> str:
    """The place of a picture below the image folder. Raises ValueError when it is anywhere else."""
    name = image["file_name"] if "file_name" in image else name_of_url(image["coco_url"])
    if not isinstance(name, str) or not name or not _is_text(name):
        raise ValueError(f"{source}: file_name {str(name)[:60]!r} is no name of a file")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "://" in name:
        raise ValueError(f"{source}: file_name {name!r} leaves the image folder")
    return name


def coco_folder(source: str, names: Sequence[str]) -> str:
    """Where the pictures of a COCO JSON of this absolute address lie when nobody says: in the folder `images` beside it
    if any of the first ones is there, else beside it."""
    beside = source.rpartition("/")[0]
    inside = f"{beside}/images"
    there = UriReader().exists if source.startswith(S3_SCHEME) else stamp_of
    return inside if any(there(f"{inside}/{name}") for name in names[:_LOOKED_FOR]) else beside


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


def _reference(uri: str, row: Mapping[str, Any]) -> ImageRef:
    """An image that a manifest names; the stamp is looked up for files of this machine only."""
    return ImageRef(uri, "" if uri.startswith(S3_SCHEME) else stamp_of(uri), *describe(row))


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
