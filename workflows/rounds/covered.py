"""How much of each image is known: the share of its pixels that lie in any mask, of whatever run or annotator."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
from numpy.typing import NDArray

from sam_core.masks import shapes
from schemas.rle import parse_runs

IMAGES_AT_ONCE = 200
_SHAPES = """
WITH found AS (
    SELECT image_id, rle FROM masks UNION ALL SELECT image_id, rle FROM annotations WHERE stage <> 'audit'
)
SELECT image_id, rle, height::BIGINT * width AS pixels FROM found JOIN images USING (image_id)
WHERE image_id BETWEEN $low AND $high AND list_contains($images, image_id) AND height::BIGINT * width > 0
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
    found = connection.sql(_SHAPES, params=asked).to_arrow_table()
    names, image = np.unique(np.array(found["image_id"].to_pylist(), np.str_), return_inverse=True)
    pixels = np.ones(len(names), np.int64)
    pixels[image] = found["pixels"].to_numpy()
    runs = parse_runs(found["rle"])
    joined = shapes.union_areas(runs.lengths, runs.first, image, len(names))
    return dict(zip(names.tolist(), (joined / pixels).tolist(), strict=True))
