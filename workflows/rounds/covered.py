"""How much of each image is known: the share of its pixels that lie in any mask, of whatever run or annotator."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
from numpy.typing import NDArray

from sam_core.masks import shapes
from schemas.rle import parse_runs
from schemas.window import OF_IMAGE, TO_IMAGE

IMAGES_AT_ONCE = 200
# The views would open all files for every few images. Masks say how large their image is, so it need not be looked up.
_SHAPES = """
SELECT image_id, rle, height::BIGINT * width AS pixels FROM (
    SELECT image_id, rle, height, width FROM masks_in('dataset://masks/*.parquet{files}')
    UNION ALL
    SELECT image_id, rle, height, width FROM annotations_in('dataset://annotations/masks/*.parquet{files}')
    WHERE stage <> 'audit'
) WHERE image_id BETWEEN $low AND $high AND list_contains($images, image_id)
"""


def covered_shares(connection: duckdb.DuckDBPyConnection, image_ids: Sequence[str]) -> NDArray[np.float64]:
    """float64 [N], 0..1, 0 without masks. Masks overlap, so their outlines are joined: areas do not add up to it.

    Raises RleError when an outline is unreadable.
    """
    ordered = sorted(set(image_ids))  # ids that follow one another lie together on disk
    shares: dict[str, float] = {}
    for start in range(0, len(ordered), IMAGES_AT_ONCE):
        few = ordered[start : start + IMAGES_AT_ONCE]
        shares |= _shares(connection, few)
    return np.array([shares.get(image, 0.0) for image in image_ids], np.float64)


def _shares(connection: duckdb.DuckDBPyConnection, images: list[str]) -> dict[str, float]:
    asked = {"low": images[0], "high": images[-1], "images": images}
    shapes_here = _SHAPES.format(files=f"{OF_IMAGE}{images[0]}{TO_IMAGE}{images[-1]}")
    found = connection.sql(shapes_here, params=asked).to_arrow_table()
    names, image = np.unique(np.array(found["image_id"].to_pylist(), np.str_), return_inverse=True)
    pixels = np.ones(len(names), np.int64)
    pixels[image] = found["pixels"].to_numpy()
    runs = parse_runs(found["rle"])
    joined = shapes.union_areas(runs.lengths, runs.first, image, len(names))
    return dict(zip(names.tolist(), (joined / pixels).tolist(), strict=True))
