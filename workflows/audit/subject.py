"""What is audited: a data set of ours or a COCO JSON, brought to the same relations in DuckDB.

    audit_all_images   image_id, uri, uris, files, height, width, licence, metadata, n_masks: the images worked on;
                       licence names all that the places of an image state
    audit_images       those of them whose licence is allowed
    audit_masks        their masks: image_id, height, width, area, bbox_x, bbox_y, bbox_w, bbox_h

Image ids are hashes, so images whose ids follow one another are as good as drawn at random, and lie together on disk:
that is how samples are taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import duckdb
import pyarrow as pa

from schemas.catalog import query
from schemas.ids import image_id as id_of_bytes
from workflows.exchange.selection import LOOKED_AT
from workflows.failures import is_of_the_machine
from workflows.images import ImageError
from workflows.report.queries import licence_condition, literal, rows
from workflows.sizes import tell_unread
from workflows.sql import connect, newest_run, require_run
from workflows.storage import split_place
from workflows.uris import UriReader

Taken = TypeVar("Taken")
ANNOTATIONS = "annotations"
_OF_RUN = "SELECT image_id, n_masks FROM outcomes WHERE status = 'ok' AND run_id = {run}"
_OF_PEOPLE = f"""
SELECT image_id, count(mask_id) AS n_masks FROM (
    SELECT image_id, mask_id FROM annotations WHERE stage <> 'audit'
    UNION ALL
    SELECT image_id, NULL FROM ({LOOKED_AT})
) GROUP BY image_id
"""
_IMAGES = """
CREATE TEMP TABLE audit_all_images AS
SELECT image_id, uri, uris, len(uris) AS files, height, width, stated.licence, metadata, n_masks
FROM images JOIN ({worked_on}) USING (image_id)
LEFT JOIN (
    SELECT image_id, string_agg(DISTINCT licence, ' and ' ORDER BY licence) AS licence
    FROM image_licences WHERE licence <> '' GROUP BY image_id
) AS stated USING (image_id)
WHERE height::BIGINT * width > 0
ORDER BY image_id
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """One data set under audit. `masks_sql` and `images_sql` are its relations as anybody can ask for them.

    `shapes` gives rows mask_id, image_id, height, width, area, rle and scores of the masks of images whose ids lie
    between two, both counted, in the order of image_id. `scored`: whether masks have what an automatic mask has.
    """

    label: str
    place: str
    connection: duckdb.DuckDBPyConnection
    masks_sql: str
    images_sql: str
    shapes: Callable[[str, str], pa.Table]
    run_id: str | None = None
    scored: bool = True

    def first(
        self, reader: UriReader, image_id: str, uris: Iterable[str], take: Callable[[str, bytes], Taken | None]
    ) -> Taken | None:
        """What `take` makes, of place and bytes, of the first of an image's files that it can make anything of.

        None where no place has the image that the masks were made for (of a COCO JSON nobody can tell), or it is
        damaged. Raises OSError where a store or the machine is at fault: what it keeps back is no damaged picture.
        """
        at_fault: Exception | None = None
        for uri in uris:
            try:
                data = reader.read(uri)
                is_it = self.place.endswith(".json") or id_of_bytes(data) == image_id
                if is_it and (taken := take(uri, data)) is not None:
                    return taken
            except (OSError, ImageError) as error:
                if is_of_the_machine(error):
                    at_fault = error
        if at_fault:
            raise at_fault
        return None

    def rows(self, sql: str) -> list[dict[str, object]]:
        """The answer to a query, one dict per row."""
        return rows(self.connection, sql)

    def sample(self, images: int, seed: int) -> list[str]:
        """Ids of so many images: those after a place that the seed decides, in order, then those from the start."""
        start = literal(hashlib.sha256(f"audit {seed}".encode()).hexdigest()[:32])
        found = self.rows(f"SELECT image_id FROM audit_images ORDER BY image_id < {start}, image_id LIMIT {images}")
        return [str(row["image_id"]) for row in found]


def open_data_set(text: str, *, licences: Sequence[str] = ()) -> Subject:
    """A data set of ours: DATASET, DATASET@RUN (its id or name), or DATASET@annotations.

    Args:
        licences: patterns of which an image's licence must fit one; all images when empty.

    Raises:
        ValueError: one line: no data set, no such run, nothing to audit.
    """
    place, wanted = split_place(text)
    connection = connect(place)
    run_id = None if wanted == ANNOTATIONS else _run(connection, place, wanted)
    if run_id is None:
        relation, worked_on, label = "annotations WHERE stage <> 'audit'", _OF_PEOPLE, ANNOTATIONS
        images_sql = f"({_OF_PEOPLE.strip()})"
    else:
        relation, worked_on = f"masks WHERE run_id = {literal(run_id)}", _OF_RUN.format(run=literal(run_id))
        images_sql, label = f"outcomes WHERE status = 'ok' AND run_id = {literal(run_id)}", _name(connection, run_id)
    tell_unread(connection)
    connection.execute(_IMAGES.format(worked_on=worked_on))
    if run_id is None and not rows(connection, "SELECT 1 FROM audit_all_images LIMIT 1"):
        raise ValueError(f"{place} has no masks by people to audit: `sam-engine annotate` is where they are drawn")
    allow(connection, licences, stated_in="image_licences")
    if licences:
        relation += " AND image_id IN (SELECT image_id FROM audit_images)"
    connection.execute(f"CREATE TEMP VIEW audit_masks AS SELECT * FROM {relation}")
    name = f"{place.rstrip('/').rsplit('/', 1)[-1]} · {label}"
    return Subject(name, text, connection, relation, images_sql, _shapes_of(connection), run_id)


def allow(connection: duckdb.DuckDBPyConnection, licences: Sequence[str], *, stated_in: str) -> None:
    """Create audit_images out of audit_all_images. Raises ValueError when no image has an allowed licence.

    stated_in: relation of image_id and licence, of these images and perhaps others.
    """
    known = f"(FROM {stated_in} AS stated SEMI JOIN audit_all_images USING (image_id))"
    allowed = licence_condition(connection, licences, known)
    connection.execute(f"CREATE TEMP VIEW audit_images AS FROM audit_all_images WHERE {allowed}")


def _shapes_of(connection: duckdb.DuckDBPyConnection) -> Callable[[str, str], pa.Table]:
    """Subject.shapes of a data set; without the masks of images that have no size."""
    columns = "mask_id, image_id, height, width, area, rle, predicted_iou, stability_score"

    def shapes(low: str, high: str) -> pa.Table:
        between = f"image_id BETWEEN {literal(low)} AND {literal(high)}"
        here = f"{between} AND image_id IN (SELECT image_id FROM audit_images WHERE {between})"
        return query(connection, f"SELECT {columns} FROM audit_masks WHERE {here} ORDER BY image_id, mask_id")

    return shapes


def _name(connection: duckdb.DuckDBPyConnection, run_id: str) -> str:
    """What a run is called: the name that it was given, where no other run has it."""
    same = f"SELECT name FROM runs WHERE name = (SELECT name FROM runs WHERE run_id = {literal(run_id)})"
    found = rows(connection, same)
    return str(found[0]["name"]) if len(found) == 1 else run_id


def _run(connection: duckdb.DuckDBPyConnection, place: str, wanted: str) -> str | None:
    """The id of the run that is meant, the newest if none is; None for the annotations where there are only those."""
    if wanted:
        return require_run(connection, place, wanted)
    if newest := newest_run(connection):
        return newest
    if rows(connection, "SELECT 1 FROM annotations WHERE stage <> 'audit' LIMIT 1"):
        return None
    raise ValueError(f"{place} has no masks to audit: `sam-engine generate` makes some")
