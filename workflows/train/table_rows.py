"""Index rows of a data set: masks that people drew, that runs found or that a round froze, or pictures alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.layout import snapshot_key
from schemas.rle import measure
from workflows.failures import tell_left_out
from workflows.sizes import tell_unread
from workflows.sql import BESIDE_OTHERS, connect, require_run
from workflows.storage import open_store
from workflows.stored_tables import get_table
from workflows.train.index import index_row, index_table

_SNAPSHOT = re.compile(r"round-(\d+)")
_TABLES = {"masks": "true", "annotations": "stage <> 'audit'"}  # audits measure masks that models made
_PLACES = (
    "CREATE TEMP TABLE places AS SELECT row_number() OVER (ORDER BY uris) - 1 AS place, image_id, uris FROM images"
)
# Sorted, not collected by DuckDB, which keeps lists in memory and puts on disk what it sorts.
_OF_TABLE = """
SELECT place, drawn.height AS height, drawn.width AS width, drawn.rle AS rle{vectors}
FROM {table} AS drawn JOIN places USING (image_id) WHERE {where} ORDER BY place, height, width, drawn.mask_id
"""
_ROWS_AT_ONCE = 65_536
_PICTURES = """
SELECT uris, image_id FROM images
ANTI JOIN (SELECT image_id FROM outcomes GROUP BY image_id HAVING bool_and(status <> 'ok')) AS broken USING (image_id)
WHERE height IS NOT NULL ORDER BY image_id
"""
"""Those that can be read as far as anybody knows: not those that `ingest` or every run so far failed at."""
_VECTORS = ", drawn.vectors AS vectors"
_WITH_CROPS = """(
    SELECT masks.*, seen.vectors FROM {table} AS masks JOIN (
        SELECT mask_id, revision, list(vector ORDER BY draw) AS vectors FROM crops
        WHERE clip_sha256 = '{clip}' AND area >= {least} GROUP BY ALL
    ) AS seen ON seen.mask_id = masks.mask_id AND seen.revision = {revision}
)"""
_WITHOUT_CROPS = """
SELECT count(*) FROM (FROM {table} WHERE {where} AND area >= {least}) AS masks
ANTI JOIN (FROM crops WHERE clip_sha256 = '{clip}') AS seen
    ON seen.mask_id = masks.mask_id AND seen.revision = {revision}
"""


@dataclass(frozen=True, slots=True)
class WantedCrops:
    """Embeddings that a run trains text prompts on: by which CLIP, and of masks of at least `min_area` px."""

    clip_sha256: str
    min_area: int = 1


def picture_rows(place: str, table: str) -> Iterator[dict[str, Any]]:
    """Pictures of a data set, without masks. Raises ValueError where a table of masks is named."""
    if table:
        raise ValueError(f"{place}@{table}: images without masks are all of a data set; leave @{table} out")
    connection = connect(place)
    tell_unread(connection)
    for uris, image_id in connection.execute(_PICTURES).fetchall():
        yield index_row(uris, image_id=image_id)


def mask_rows(place: str, table: str, crops: WantedCrops | None) -> Iterator[pa.Table]:
    """Masks of a run, of all runs (`@masks`), those that people drew (`@annotations`), those that an engine round froze
    (`@round-3`), or, unsaid, all of them: rows of INDEX, some images at a time, in the order of their places.

    Raises ValueError where `table` names none of these.
    """
    connection = connect(place, memory=None if crops else BESIDE_OTHERS)  # embeddings are lists
    if frozen := _SNAPSHOT.fullmatch(table):
        store, key = open_store(place), snapshot_key(int(frozen[1]))
        if not store.exists(key):
            raise ValueError(f"{place}@{table}: no engine round of that number has frozen masks there")
        rows = get_table(store, key)
        if crops:
            heights = rows["height"].to_numpy().astype(np.int64)
            rows = rows.append_column("area", pa.array(measure(rows["rle"], heights).areas))
        connection.register("snapshot", rows)
    chosen = _chosen(connection, place, table)
    connection.execute(_PLACES)
    pictures = connection.sql("SELECT uris, image_id FROM places ORDER BY place").to_arrow_table()
    images = 0
    for source, where in chosen:
        masks, vectors = (_with_crops(source, crops), _VECTORS) if crops else (source, "")
        listed = connection.sql(_OF_TABLE.format(table=masks, where=where, vectors=vectors))
        for rows in whole_images(listed.to_arrow_reader(_ROWS_AT_ONCE), pictures):
            images += len(rows)
            yield rows
    if crops and images:  # else there is nothing to train on, which is said
        _tell_without_crops(connection, place, chosen, crops)


def whole_images(masks: Iterable[pa.RecordBatch], pictures: pa.Table) -> Iterator[pa.Table]:
    """Rows of INDEX for rows of masks in the order of their images.

    masks: columns place, height, width, rle and perhaps vectors. pictures: uris and image_id, in the order of places.
    """
    rest: list[pa.RecordBatch] = []  # the masks of an image that may go on in the next batch
    for batch in masks:
        rows = pa.Table.from_batches([*rest, batch])
        starts = _starts(rows)
        yield _together(rows.slice(0, starts[-1]), starts[:-1], pictures)
        rest = rows.slice(starts[-1]).to_batches()
    if rest:
        yield _together(pa.Table.from_batches(rest), np.zeros(1, np.int64), pictures)


def _starts(rows: pa.Table) -> NDArray[np.int64]:
    """The first row of each image, or of each size that an image's masks have; of no rows one that is not there."""
    columns = np.stack([rows[name].to_numpy() for name in ("place", "height", "width")])
    return np.flatnonzero(np.append(True, (columns[:, 1:] != columns[:, :-1]).any(axis=0)))


def _together(rows: pa.Table, starts: NDArray[np.int64], pictures: pa.Table) -> pa.Table:
    """A row of INDEX for the masks from each start to the next one."""
    ends = pa.array(np.append(starts, len(rows)), pa.int32())
    first = rows.select(["place", "height", "width"]).take(pa.array(starts))
    found = {name: pictures[name].take(first["place"]) for name in pictures.column_names}
    found |= {"height": first["height"], "width": first["width"]}
    for name, column in (("rles", "rle"), ("vectors", "vectors")):
        if column in rows.column_names:
            found[name] = pa.ListArray.from_arrays(ends, rows[column].combine_chunks())
    return index_table(found, len(starts))


def _with_crops(table: str, crops: WantedCrops) -> str:
    """The table's masks that have embeddings, with them."""
    return _WITH_CROPS.format(**_asked(table, crops))


def _tell_without_crops(
    connection: duckdb.DuckDBPyConnection, place: str, chosen: list[tuple[str, str]], crops: WantedCrops
) -> None:
    """Say how many masks have no embeddings yet, and are left out: `crops` was killed, or made for larger masks alone,
    or they are newer."""
    asked = (_WITHOUT_CROPS.format(**_asked(table, crops), where=where) for table, where in chosen)
    if count := sum(connection.execute(sql).fetchall()[0][0] for sql in asked):
        embeds = f"`sam-engine crops {shlex.quote(place)} --clip FOLDER --min-area {crops.min_area}` embeds them"
        tell_left_out([f"{count:,} masks of {crops.min_area:,} px or more have no crops by this CLIP; {embeds}"])


def _asked(table: str, crops: WantedCrops) -> dict[str, object]:
    revision = "0" if table == "masks" else "masks.revision"
    return {"table": table, "clip": crops.clip_sha256, "revision": revision, "least": crops.min_area}


def _chosen(connection: duckdb.DuckDBPyConnection, place: str, table: str) -> list[tuple[str, str]]:
    """Tables with conditions that the text after @ names: all for none."""
    if _SNAPSHOT.fullmatch(table):
        return [("snapshot", "true")]
    if table and table not in _TABLES:
        return [("masks", f"run_id = '{require_run(connection, place, table)}'")]
    return [(name, _TABLES[name]) for name in ([table] if table else _TABLES)]
