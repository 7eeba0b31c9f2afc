"""The files of images that were noted before: read from the first of their places that still has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from schemas.ids import image_id as id_of_bytes
from workflows.failures import first_line, is_of_the_machine, one_line
from workflows.images import UNREADABLE, ImageError, decode
from workflows.sql import connect
from workflows.storage import TooLargeError
from workflows.uris import UriReader

_PLACES = """
SELECT image_id, list(uri ORDER BY noted DESC, uri) FROM (
    SELECT image_id, uri, max(ingested_at) AS noted FROM read_parquet('dataset://images/*.parquet')
    WHERE image_id IN (SELECT unnest(?)) GROUP BY ALL
) GROUP BY image_id
"""
MOVED = "; if the images moved, `sam-engine ingest NEW_PLACE DATASET`"


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of the data set and the places where it may be read."""

    image_id: str
    uris: tuple[str, ...]

    @property
    def uri(self) -> str:
        """What it is called in messages."""
        return self.uris[0]


def other_places(dataset: str, planned: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Where images lie as well as at the place given for each id: what the data set noted, the newest first.

    Raises ValueError or OSError (one line) where the data set cannot be asked.
    """
    with closing(connect(dataset)) as catalog:
        try:
            noted = catalog.execute(_PLACES, [list(planned)]).fetchall()
        except duckdb.Error as error:
            raise ValueError(f"{dataset}: {first_line(error)}") from error
    return {image_id: tuple(uri for uri in uris if uri != planned[image_id]) for image_id, uris in noted}


def read_pixels(reader: UriReader, image: StoredImage, *, max_pixels: int) -> NDArray[np.uint8]:
    """uint8 RGB [H, W, 3] of an image of the data set. Raises what `read_original` raises, and ImageError that begins
    with the place where it cannot be decoded."""
    return pixels_of(image, read_original(reader, image.uris, image.image_id), max_pixels=max_pixels)


def pixels_of(image: StoredImage, data: bytes, *, max_pixels: int) -> NDArray[np.uint8]:
    """uint8 RGB [H, W, 3] of an image's file. Raises ImageError that begins with the image's place where it cannot be
    decoded."""
    try:
        return decode(data, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError(error.kind, f"{image.uri}: {error}") from error


def read_original(reader: UriReader, uris: Sequence[str], image_id: str | None) -> bytes:
    """The file of an image from the first of its places that still has it.

    image_id: what the bytes must hash to; None where nobody noted it, and then any file will do.

    Raises:
        StoreError: no place has it, and one lies in a store that is at fault, so that it may be there later.
        OSError: no place has it, and the machine is at fault.
        ImageError: no place has it; the message begins with a place. Changed where one has other bytes, TooManyBytes,
            Unreadable.
    """
    problems: list[tuple[int, Exception]] = []
    for uri in uris:
        try:
            data = reader.read(uri)
        except OSError as error:
            problems.append(_problem(uri, error, noted=image_id is not None))
            continue
        if image_id in (None, id_of_bytes(data)):
            return data
        problems.append((1, ImageError("Changed", f"{uri}: the file has other bytes than when it was ingested")))
    raise min(problems, key=lambda ranked: ranked[0])[1]


def _problem(uri: str, error: OSError, *, noted: bool) -> tuple[int, Exception]:
    """Why a place has no file; of several places the one of the lowest rank says most."""
    if is_of_the_machine(error):
        return 0, error
    if isinstance(error, FileNotFoundError):
        return 3, ImageError(UNREADABLE, f"{uri}: no such file{MOVED if noted else ''}")
    if isinstance(error, TooLargeError):
        return 2, ImageError("TooManyBytes", f"{uri}: {error}")
    return 2, ImageError(UNREADABLE, one_line(error))
