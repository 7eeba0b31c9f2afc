"""Photographs with their masks from every group of masks per image, as the paper's figure 2 shows its data set."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sam_core.masks.batch import MaskRecords
from schemas.rle import measure
from workflows.audit.subject import Subject
from workflows.images import decode
from workflows.report.gallery import data_uri, resized, small_size
from workflows.report.overlays import overlay
from workflows.report.queries import BUCKET_SQL, BUCKETS, literal
from workflows.uris import UriReader

PER_GROUP = 4
_SIDE = 360


@dataclass(frozen=True, slots=True)
class Example:
    """One photograph with its masks painted over it; `source` is a data URI."""

    name: str
    masks: int
    source: str


@dataclass(frozen=True, slots=True)
class Group:
    """Examples of one of the report's buckets of masks per image."""

    name: str
    examples: tuple[Example, ...]


def examples(subject: Subject, *, seed: int) -> list[Group]:
    """Some images of every group, drawn at random; those whose files cannot be read are left out. Raises
    OSError where a store is at fault."""
    chosen = subject.rows(
        f"""
        SELECT image_id, uri, uris, n_masks, {BUCKET_SQL} AS bucket FROM audit_images
        QUALIFY row_number() OVER (PARTITION BY bucket ORDER BY md5(image_id || {literal(str(seed))})) <= {PER_GROUP}
        ORDER BY bucket, n_masks, image_id"""
    )
    reader = UriReader()
    groups = []
    for bucket, rows in groupby(chosen, key=lambda row: int(str(row["bucket"]))):
        found = tuple(example for row in rows if (example := _example(subject, reader, row)))
        groups.append(Group(BUCKETS[bucket], found))
    return [group for group in groups if group.examples]


def _example(subject: Subject, reader: UriReader, row: dict[str, Any]) -> Example | None:
    photo = subject.first(reader, row["image_id"], row["uris"], lambda _, data: decode(data))
    if photo is None:
        return None
    small = resized(photo, small_size(photo.shape[0], photo.shape[1], _SIDE))
    masks = subject.shapes(row["image_id"], row["image_id"])
    if len(masks) and (masks["height"][0].as_py(), masks["width"][0].as_py()) != photo.shape[:2]:
        return None  # the file is no longer the image that was segmented
    shown = overlay(small, records(masks), seed=row["n_masks"]) if len(masks) else small
    return Example(PurePosixPath(row["uri"]).name, row["n_masks"], data_uri(np.asarray(shown, np.uint8)))


def records(rows: pa.Table) -> MaskRecords:
    """What painting needs of rows height, width and rle of one image; the rest is left at zero."""
    heights: NDArray[np.int64] = rows["height"].to_numpy().astype(np.int64)
    measured = measure(rows["rle"], heights)
    count = len(rows)
    return MaskRecords(
        size=(int(heights[0]), int(rows["width"][0].as_py())),
        rle=tuple(rows["rle"].to_pylist()),
        boxes=measured.boxes,
        areas=measured.areas,
        predicted_iou=np.zeros(count, np.float32),
        stability_score=np.zeros(count, np.float32),
        points=np.zeros((count, 2), np.float32),
        crop_boxes=np.zeros((count, 4), np.int32),
    )
