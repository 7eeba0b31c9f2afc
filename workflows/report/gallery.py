"""Photographs for the page with the masks of each run as a layer of their own, small enough to be carried inside."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image as Pillow

from schemas.catalog import query
from workflows.convert import mask_records
from workflows.failures import one_line
from workflows.image_limits import MAX_PIXELS
from workflows.images import ImageError
from workflows.originals import StoredImage, read_pixels
from workflows.report.overlays import paint
from workflows.report.queries import literal, of_runs, rows
from workflows.report.scope import Run
from workflows.storage import StoreError
from workflows.uris import UriReader

_SIDE = 800  # px, of the longest side
_PIXELS = 12 * 800 * 600  # of all pictures together, so that many of them become smaller, not the page larger
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Layer:
    """The masks of one run that finished a photograph, perhaps none. `source` is a data URI with transparent ground."""

    run: Run
    number: int
    masks: int
    source: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A photograph of the gallery. `photo` is a data URI, or None when `problem` says why it cannot be shown."""

    image_id: str
    uri: str
    height: int
    width: int
    photo: str | None
    problem: str
    layers: tuple[Layer, ...]

    @property
    def name(self) -> str:
        return PurePosixPath(self.uri).name


def pictures(
    connection: duckdb.DuckDBPyConnection, runs: Sequence[Run], *, images: int, seed: int = 0
) -> list[Picture]:
    """Finished images drawn at random, those first that most of the runs have finished; without runs, any images.

    Args:
        images: how many at most.
        seed: the same seed gives the same images, whatever else is in the data set.
    """
    run_ids = [run.run_id for run in runs]
    chosen = choose(connection, run_ids, images=images, seed=seed)
    masks = masks_of(connection, [image["image_id"] for image in chosen], run_ids)
    longest = min(_SIDE, math.isqrt(_PIXELS // max(1, len(chosen))))
    reader = UriReader()
    return [_picture(reader, image, masks, runs, longest) for image in chosen]


def choose(
    connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str], *, images: int, seed: int
) -> list[dict[str, Any]]:
    """Rows image_id, uri, uris, height, width and finished_by (ids of runs) of the images that `pictures` shows."""
    shuffled = f"md5(image_id || {literal(str(seed))})"
    ended = f"FROM outcomes WHERE status = 'ok' AND {of_runs(run_ids)} GROUP BY image_id"
    known = "SELECT image_id, []::TEXT[] AS finished_by FROM images WHERE height IS NOT NULL"
    finished = f"SELECT image_id, list(run_id) AS finished_by {ended}"
    sql = f"""
    WITH chosen AS ({finished if run_ids else known} ORDER BY len(finished_by) DESC, {shuffled} LIMIT {images})
    SELECT image_id, uri, uris, height, width, finished_by
    FROM chosen JOIN images USING (image_id) WHERE height IS NOT NULL
    ORDER BY len(finished_by) DESC, {shuffled}"""
    return rows(connection, sql)


def load_photo(reader: UriReader, image: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The pixels of a row of the `images` view, uint8 RGB [height, width, 3]. Raises ImageError, StoreError."""
    return read_pixels(reader, StoredImage(image["image_id"], tuple(image["uris"])), max_pixels=MAX_PIXELS)


def masks_of(connection: duckdb.DuckDBPyConnection, image_ids: Sequence[str], run_ids: Sequence[str]) -> pa.Table:
    """Mask rows of some images in some runs."""
    images = ", ".join(map(literal, image_ids)) or "NULL"
    return query(connection, f"FROM masks WHERE image_id IN ({images}) AND {of_runs(run_ids)} ORDER BY mask_id")


def small_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """(height, width) scaled down so that neither side is longer than `longest` px, and neither is 0."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 RGB pixels at another (height, width)."""
    return np.asarray(Pillow.fromarray(pixels).resize(size[::-1], Pillow.Resampling.LANCZOS))


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """uint8 RGB or RGBA pixels as a WebP data URI."""
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _picture(
    reader: UriReader, image: Mapping[str, Any], masks: pa.Table, runs: Sequence[Run], longest: int
) -> Picture:
    size = small_size(image["height"], image["width"], longest)
    photo, problem = None, ""
    try:
        photo = data_uri(resized(load_photo(reader, image), size))
    except (ImageError, StoreError) as error:
        problem = one_line(error)
    own = masks.filter(pc.field("image_id") == image["image_id"])
    found = [(number, run, own.filter(pc.field("run_id") == run.run_id)) for number, run in enumerate(runs)]
    colours = int(image["image_id"], 16)
    layers = [
        Layer(run, number, len(rows), data_uri(_painted(rows, size, colours)))
        for number, run, rows in found
        if run.run_id in image["finished_by"]
    ]
    return Picture(image["image_id"], image["uri"], image["height"], image["width"], photo, problem, tuple(layers))


def _painted(rows: pa.Table, size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """The masks of one image and run, or none, on a transparent ground: uint8 RGBA [*size, 4]."""
    return paint(mask_records(rows), size, seed=seed) if rows else np.zeros((*size, 4), np.uint8)
