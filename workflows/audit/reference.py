"""COCO and LVIS JSON files as data sets: the relations of workflows/audit/subject.py from their annotations.

They and their pictures lie on disk or in a bucket. Crowds are no masks and are left out. Areas and boxes are those
of the file; outlines are drawn for the images that are sampled, and where the file states no area.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePosixPath

import duckdb
import numpy as np
import pyarrow as pa
from pycocotools import mask as coco_mask

from sam_core.masks import rle
from schemas import coco
from schemas.ids import unreadable_image_id
from workflows.audit.subject import Subject, allow
from workflows.manifests import coco_folder
from workflows.report.queries import rows
from workflows.uris import absolute, read_manifest

_LONGEST_SIDE = 2**31 - 1
_RELATIVE_SIZE = "CREATE MACRO relative_size(area, height, width) AS sqrt(area / (height::DOUBLE * width))"
"""What the views of our own data sets bring along."""
_IMAGES = """
CREATE TABLE audit_all_images AS
SELECT incoming.* EXCLUDE (metadata), metadata::JSON AS metadata, coalesce(masks, 0) AS n_masks
FROM incoming LEFT JOIN (SELECT image_id, count(*) AS masks FROM coco_masks GROUP BY image_id) USING (image_id)
WHERE height::BIGINT * width > 0
ORDER BY image_id
"""


def open_coco(path: str, *, licences: Sequence[str] = ()) -> Subject:
    """A COCO JSON. Raises ValueError or OSError (one line) when it is none, or cannot be read."""
    document = coco.from_json(read_manifest(path), where=path)
    ids = {image.id: unreadable_image_id(f"{path}#{image.id}") for image in document.images}
    if any(max(image.height, image.width) > _LONGEST_SIDE for image in document.images):
        raise ValueError(f"{path}: an image is stated to be more than {_LONGEST_SIDE:,} px high or wide")
    annotations = [one for one in document.annotations if not one.iscrowd and one.image_id in ids]
    connection = duckdb.connect()
    connection.execute(_RELATIVE_SIZE)
    _create(connection, "CREATE TABLE coco_masks AS FROM incoming", _masks(document, annotations, ids))
    _create(connection, _IMAGES, _images(document, path, ids))
    allow(connection, licences, stated_in="audit_all_images")
    connection.execute("CREATE VIEW audit_masks AS FROM coco_masks SEMI JOIN audit_images USING (image_id)")
    by_image: dict[str, list[coco.Annotation]] = {}
    for one in annotations:
        by_image.setdefault(ids[one.image_id], []).append(one)
    sizes = {ids[image.id]: (image.height, image.width) for image in document.images}

    allowed = {row["image_id"] for row in rows(connection, "SELECT image_id FROM audit_images")}

    def shapes(low: str, high: str) -> pa.Table:
        chosen = sorted(image for image in by_image if low <= image <= high and image in allowed)
        drawn = [row for image in chosen for row in _drawn(by_image[image], image, *sizes[image])]
        return pa.Table.from_pylist(drawn, schema=_SHAPES)

    whole = PurePosixPath(absolute(path))
    label = f"{whole.parent.name} · {whole.stem}"
    scored = any(_is_scored(one.origin) for one in annotations)
    return Subject(label, path, connection, "audit_masks", "audit_images", shapes, scored=scored)


_SHAPES = pa.schema(
    [
        ("mask_id", pa.string()),
        ("image_id", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("area", pa.int64()),
        ("rle", pa.binary()),
        ("predicted_iou", pa.float32()),
        ("stability_score", pa.float32()),
    ]
)


def _is_scored(origin: coco.Origin) -> bool:
    """Whether a mask can be imported as an automatic one."""
    return None not in (origin.predicted_iou, origin.stability_score, origin.point_coords)


def _create(connection: duckdb.DuckDBPyConnection, sql: str, table: pa.Table) -> None:
    connection.register("incoming", table)
    connection.execute(sql)
    connection.unregister("incoming")


def _masks(document: coco.Document, annotations: list[coco.Annotation], ids: dict[int, str]) -> pa.Table:
    sizes = {image.id: (image.height, image.width) for image in document.images}
    extents = [_extent(one, *sizes[one.image_id]) for one in annotations]
    boxes = np.array([box for _, box in extents], np.float64).reshape(-1, 4)
    shape = np.array([sizes[one.image_id] for one in annotations], np.int64).reshape(-1, 2)
    return pa.table(
        {
            "mask_id": [str(one.id) for one in annotations],
            "image_id": pa.array([ids[one.image_id] for one in annotations], pa.string()),
            "height": shape[:, 0],
            "width": shape[:, 1],
            "area": np.array([area for area, _ in extents], np.float64),
            **{f"bbox_{side}": boxes[:, column] for column, side in enumerate("xywh")},
        }
    )


def _extent(one: coco.Annotation, height: int, width: int) -> tuple[float, Sequence[float]]:
    """Area and box xywh as stated; of the outline where the file states none, as some programs write 0 or nothing."""
    area, box = max(one.area, 0.0), one.bbox if one.bbox and min(one.bbox[2:]) > 0 else None
    if not area or not box:
        with suppress(ValueError):
            counts = coco.rle_of(one.segmentation, height=height, width=width)
            area = area or float(rle.area(counts))
            box = box or coco_mask.toBbox({"size": [height, width], "counts": counts}).tolist()
    return area, box or (0.0, 0.0, 0.0, 0.0)


def _images(document: coco.Document, path: str, ids: dict[int, str]) -> pa.Table:
    folder = coco_folder(absolute(path), [image.file_name for image in document.images])
    uris = [f"{folder}/{image.file_name}" for image in document.images]
    licences = {licence.id: licence.name for licence in document.licenses}
    names = [licences.get(image.license) if image.license is not None else None for image in document.images]
    return pa.table(
        {
            "image_id": [ids[image.id] for image in document.images],
            "uri": uris,
            "uris": [[uri] for uri in uris],
            "files": [1] * len(names),
            "height": [image.height for image in document.images],
            "width": [image.width for image in document.images],
            "licence": pa.array(names, pa.string()),
            "metadata": pa.nulls(len(names), pa.string()),
        }
    )


def _drawn(annotations: list[coco.Annotation], image_id: str, height: int, width: int) -> list[dict[str, object]]:
    """Rows of _SHAPES; outlines that enclose nothing are left out."""
    found: list[dict[str, object]] = []
    for one in annotations:
        try:
            counts = coco.rle_of(one.segmentation, height=height, width=width)
        except ValueError:
            continue
        size: dict[str, object] = {"height": height, "width": width, "area": rle.area(counts)}
        found.append({"mask_id": str(one.id), "image_id": image_id, "rle": counts} | size)
    return found
