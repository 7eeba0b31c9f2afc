"""Index rows of a data set: masks that people drew, that runs found or that a round froze, or pictures alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from schemas.layout import snapshot_key
from schemas.rle import parse_runs
from workflows.failures import tell_left_out
from workflows.sizes import tell_unread
from workflows.sql import connect, require_run
from workflows.storage import open_store
from workflows.stored_tables import get_table
from workflows.train.index import index_row

_SNAPSHOT = re.compile(r"round-(\d+)")
_TABLES = {"masks": "true", "annotations": "stage <> 'audit'"}  # audits measure masks that models made
_OF_TABLE = """
SELECT images.image_id AS image_id, images.uris AS uris, drawn.height AS height, drawn.width AS width,
    list(drawn.rle ORDER BY drawn.mask_id) AS rles{vectors}
FROM {table} AS drawn JOIN images USING (image_id) WHERE {where}
GROUP BY ALL ORDER BY uris
"""
_PICTURES = """
SELECT uris, image_id FROM images
ANTI JOIN (SELECT image_id FROM outcomes GROUP BY image_id HAVING bool_and(status <> 'ok')) AS broken USING (image_id)
WHERE height IS NOT NULL ORDER BY image_id
"""
"""Those that can be read as far as anybody knows: not those that `ingest` or every run so far failed at."""
_VECTORS = ", list(drawn.vectors ORDER BY drawn.mask_id) AS vectors"
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


def mask_rows(place: str, table: str, crops: WantedCrops | None) -> Iterator[dict[str, Any]]:
    """Masks of a run, of all runs (`@masks`), those that people drew (`@annotations`), those that an engine round froze
    (`@round-3`), or, unsaid, all of them. Raises ValueError where `table` names none of these."""
    connection = connect(place)
    if frozen := _SNAPSHOT.fullmatch(table):
        store, key = open_store(place), snapshot_key(int(frozen[1]))
        if not store.exists(key):
            raise ValueError(f"{place}@{table}: no engine round of that number has frozen masks there")
        rows = get_table(store, key)
        if crops:
            rows = rows.append_column("area", pa.array(parse_runs(rows["rle"]).areas))
        connection.register("snapshot", rows)
    chosen = _chosen(connection, place, table)
    images = 0
    for source, where in chosen:
        masks, vectors = (_with_crops(source, crops), _VECTORS) if crops else (source, "")
        listed = _OF_TABLE.format(table=masks, where=where, vectors=vectors)
        for row in connection.sql(listed).to_arrow_table().to_pylist():
            images += 1
            yield index_row(**row)
    if crops and images:  # else there is nothing to train on, which is said
        _tell_without_crops(connection, place, chosen, crops)


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
