"""Which masks are parts of which: counts per run, and photographs in which the colour of a mask is its depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from schemas.catalog import query
from workflows.convert import mask_records
from workflows.images import ImageError
from workflows.report.gallery import data_uri, load_photo, resized, small_size
from workflows.report.overlays import paint
from workflows.report.queries import literal, of_runs, rows
from workflows.report.scope import Run
from workflows.storage import StoreError
from workflows.uris import UriReader

DEPTH_COLOURS = ((64, 112, 232), (240, 150, 40), (30, 170, 110), (220, 60, 160))
"""RGB of masks at the top, of their parts, of the parts of those, and of anything deeper."""
_PICTURES = 3
_SIDE = 640  # px, of the longest side


@dataclass(frozen=True, slots=True)
class Tree:
    """One run: masks that were related, how many are parts, have parts or repeat others, and the deepest.

    A run has one for each pair of thresholds: several where `relate` has not come to its end with the newest.
    """

    run_id: str
    masks: int
    parts: int
    with_parts: int
    copies: int
    deepest: int
    containment: float
    duplicate_threshold: float


@dataclass(frozen=True, slots=True)
class TreePicture:
    """A photograph and its masks, both data URIs, the masks coloured by depth."""

    name: str
    height: int
    width: int
    masks: int
    deepest: int
    photo: str
    layer: str


@dataclass(frozen=True, slots=True)
class RelationsFigure:
    """What the section shows."""

    trees: tuple[Tree, ...]
    pictures: tuple[TreePicture, ...]
    sql: str

    @property
    def colours(self) -> list[tuple[str, str]]:
        """Words and CSS colour of each depth."""
        words = ("whole", "part", "part of a part", "deeper")
        return [(word, f"rgb{colour}") for word, colour in zip(words, DEPTH_COLOURS, strict=True)]


def relations_figure(connection: duckdb.DuckDBPyConnection, runs: Sequence[Run]) -> RelationsFigure | None:
    """Counts of the runs, and images of the newest that nest most; None where `sam-engine relate` has not been."""
    sql = f"""SELECT run_id, count(*) AS masks, count(parent_mask_id) AS parts,
    count(*) FILTER (parts > 0) AS with_parts, count(duplicate_of) AS copies, max(depth) AS deepest,
    containment, duplicate_threshold
FROM relations WHERE {of_runs([run.run_id for run in runs])} GROUP BY run_id, containment, duplicate_threshold
ORDER BY run_id, containment, duplicate_threshold"""
    trees = tuple(Tree(**row) for row in rows(connection, sql))
    if not trees:
        return None
    known = {tree.run_id for tree in trees}
    newest = [run.run_id for run in runs if run.run_id in known][-1]
    return RelationsFigure(trees, tuple(_pictures(connection, newest)), sql)


def depth_palette(depths: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The colour of each mask, uint8 RGB [N, 3]."""
    return np.array(DEPTH_COLOURS, np.uint8)[np.minimum(depths, len(DEPTH_COLOURS) - 1)]


def _pictures(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[TreePicture]:
    sql = f"""
    WITH nested AS (
        SELECT image_id, max(depth) AS deepest, count(parent_mask_id) AS parts FROM relations
        WHERE run_id = {literal(run_id)} GROUP BY image_id HAVING parts > 0
        ORDER BY deepest DESC, parts DESC, image_id LIMIT {_PICTURES}
    )
    SELECT image_id, uri, uris, height, width, deepest FROM nested JOIN images USING (image_id)
    ORDER BY deepest DESC, parts DESC, image_id"""
    reader = UriReader()
    drawn = (_picture(connection, reader, run_id, image) for image in rows(connection, sql))
    return [picture for picture in drawn if picture is not None]


def _picture(
    connection: duckdb.DuckDBPyConnection, reader: UriReader, run_id: str, image: dict[str, Any]
) -> TreePicture | None:
    """None when the photograph cannot be read any more; the gallery says why."""
    try:
        photo = load_photo(reader, image)
    except (ImageError, StoreError):
        return None
    height, width = photo.shape[:2]
    size = small_size(height, width, _SIDE)
    found = query(
        connection,
        f"FROM mask_tree WHERE run_id = {literal(run_id)} AND image_id = {literal(image['image_id'])} "
        "AND duplicate_of IS NULL ORDER BY mask_id",
    )
    layer = paint(mask_records(found), size, palette=depth_palette(found["depth"].to_numpy()))
    name = str(image["uri"]).rpartition("/")[2]
    shown = data_uri(resized(photo, size))
    return TreePicture(name, height, width, len(found), image["deepest"], shown, data_uri(layer))
