"""What only the image files tell: pictures that look alike, and positions in their EXIF. Of sampled images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from workflows.audit.neighbours import pairs_until
from workflows.audit.subject import Subject
from workflows.image_limits import MAX_PIXELS, byte_limit
from workflows.images import decode, orientation_left, read_header, to_rgb, upright
from workflows.report.gallery import data_uri, resized, small_size
from workflows.report.queries import literal
from workflows.uris import UriReader

NEAR_BITS = 4
"""Two pictures look alike when their 64-bit hashes differ in at most so many bits."""
_READERS = 8
_SIDE = 8
_SHOWN = 8
_THUMBNAIL = 240
_FLAT = 4.0  # standard deviation of grey levels below which a picture has no structure to compare


@dataclass(frozen=True, slots=True)
class Glance:
    """What one file says. `hash` is None for a flat picture, `position` (latitude, longitude) for one without."""

    image_id: str
    uri: str
    hash: int | None
    position: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures that look alike, as data URIs, and in how many bits their hashes differ."""

    names: tuple[str, str]
    thumbnails: tuple[str, str]
    bits: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found in the files. `unreadable` could not be opened, or are others by now; `alike` images have a twin
    among those seen."""

    images: int
    unreadable: int
    alike: int
    pairs: tuple[Pair, ...]
    positions: dict[str, tuple[float, float]]


def look(subject: Subject, *, images: int, seed: int) -> Looked:
    """Open so many image files; twins among more of them may be missed. Raises OSError where a store is at fault."""
    ids = subject.sample(images, seed)
    listed = ", ".join(map(literal, ids)) or "NULL"
    known = subject.rows(f"SELECT image_id, uris FROM audit_images WHERE image_id IN ({listed}) ORDER BY image_id")
    reader = UriReader(max_bytes=byte_limit(MAX_PIXELS))

    def glance(row: dict[str, Any]) -> Glance | None:
        return subject.first(reader, row["image_id"], row["uris"], partial(_glance, row["image_id"]))

    with ThreadPoolExecutor(_READERS) as readers:
        glances = [found for found in readers.map(glance, known) if found]
    hashed = [glance for glance in glances if glance.hash is not None]
    twins, bits = near_pairs(np.array([glance.hash for glance in hashed], np.uint64), NEAR_BITS)
    return Looked(
        images=len(glances),
        unreadable=len(known) - len(glances),
        alike=len(np.unique(twins)),
        pairs=tuple(
            _pair(reader, hashed[a], hashed[b], int(n)) for (a, b), n in zip(twins[:_SHOWN], bits, strict=False)
        ),
        positions={glance.image_id: glance.position for glance in glances if glance.position},
    )


def difference_hash(grey: Image.Image) -> int | None:
    """64 bits that say where a picture gets darker to the right, at 9 x 8 px; None for a flat picture.

    The same after scaling, recompression or a little brightening; not after cropping or mirroring.
    """
    small = np.asarray(grey.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX), np.int16)
    if small.std() < _FLAT:
        return None
    return int.from_bytes(np.packbits(small[:, 1:] < small[:, :-1]).tobytes(), "big")


def near_pairs(hashes: NDArray[np.uint64], bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of hashes that differ in at most so many bits: int64 [P, 2], nearest first, and int64 [P] how many.

    Cut into one more piece than bits may differ, two such hashes agree in one whole piece: only those are compared.
    """
    found = [np.zeros((0, 2), np.int64)]
    for piece in np.array_split(np.arange(64), bits + 1):
        pairs = _equal_pairs((hashes >> np.uint64(piece[0])) & np.uint64((1 << len(piece)) - 1))
        found.append(pairs[_apart(hashes, pairs) <= bits])
    near = np.unique(np.concatenate(found), axis=0)
    apart = _apart(hashes, near)
    order = np.argsort(apart, kind="stable")
    return near[order], apart[order]


def _apart(hashes: NDArray[np.uint64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """In how many bits the hashes of each pair differ."""
    return np.asarray(np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]), np.int64)


def exif_position(image: Image.Image) -> tuple[float, float] | None:
    """Latitude and longitude in degrees out of a picture's EXIF; None where it has none, or a broken one."""
    try:
        tags = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        latitude = _degrees(tags[ExifTags.GPS.GPSLatitude], tags[ExifTags.GPS.GPSLatitudeRef], "S")
        longitude = _degrees(tags[ExifTags.GPS.GPSLongitude], tags[ExifTags.GPS.GPSLongitudeRef], "W")
    except Exception:  # cameras and editors write all sorts of things here, and none is worth a failure
        return None
    whole = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0.0, 0.0)
    return (latitude, longitude) if whole else None


def _degrees(parts: Sequence[float], side: str, negative: str) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60 + seconds / 3600
    return -value if str(side).upper().startswith(negative) else value


def _glance(image_id: str, uri: str, data: bytes) -> Glance | None:
    """What a file says; None for one that is damaged."""
    try:
        read_header(data)  # which refuses bombs before anything is unpacked
        image = Image.open(io.BytesIO(data))
        position = exif_position(image)
        image.draft("L", (64, 64))  # a JPEG is then unpacked at an eighth of its size
        image.load()
        plain = image if image.mode in ("L", "RGB") else to_rgb(image)
        return Glance(image_id, uri, difference_hash(upright(plain, orientation_left(image))), position)
    except MemoryError:
        raise
    except Exception:  # decoders of hostile bytes raise nearly everything
        return None


def _equal_pairs(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """All pairs of places that hold the same key, the smaller place first: int64 [P, 2]."""
    order = np.argsort(keys, kind="stable")
    ends = np.searchsorted(keys[order], keys[order], side="right")
    one, other = pairs_until(ends)
    return np.sort(np.stack([order[one], order[other]], axis=1), axis=1).astype(np.int64)


def _pair(reader: UriReader, one: Glance, other: Glance, bits: int) -> Pair:
    names = (PurePosixPath(one.uri).name, PurePosixPath(other.uri).name)
    return Pair(names, (_thumbnail(reader, one.uri), _thumbnail(reader, other.uri)), bits)


def _thumbnail(reader: UriReader, uri: str) -> str:
    pixels = decode(reader.read(uri))
    return data_uri(resized(pixels, small_size(pixels.shape[0], pixels.shape[1], _THUMBNAIL)))
