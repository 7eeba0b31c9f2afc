"""SA-1B's JSON: one document per image, as the released data set has it (segment-anything README, "Dataset").

Boxes are xywh and points xy, in px of the image; `counts` is a COCO compressed RLE as text, column-major.
"""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from schemas.json_fields import JsonObject, fields_of, parse_object

Box = tuple[float, float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A COCO RLE: `size` is (height, width), `counts` its compressed run lengths as ASCII text."""

    size: tuple[int, int]
    counts: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """One mask."""

    id: int
    segmentation: Segmentation
    bbox: Box
    area: int
    predicted_iou: float
    stability_score: float
    crop_box: Box
    point_coords: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The image that the masks belong to."""

    image_id: int
    width: int
    height: int
    file_name: str


@dataclass(frozen=True, slots=True)
class Document:
    """One file of SA-1B."""

    image: ImageInfo
    annotations: tuple[Annotation, ...]


def to_json(document: Document) -> str:
    """The text of a file, as `json.load` and pycocotools' `decode` of each segmentation expect it."""
    return json.dumps(document, default=fields_of, separators=(",", ":"), allow_nan=False)


def from_json(text: str | bytes, *, where: str) -> Document:
    """The document of a file; fields beyond SA-1B's are passed over.

    Args:
        where: name of the file, for messages.

    Raises:
        ValueError: one line that says which field is missing or wrong.
    """
    root = parse_object(text, where)
    image = root.child("image")
    info = ImageInfo(
        image.integer("image_id"), image.integer("width"), image.integer("height"), image.text("file_name")
    )
    return Document(info, tuple(_annotation(entry) for entry in root.children("annotations")))


def rles_of(document: Document, *, where: str) -> list[bytes]:
    """The compressed counts of all masks.

    Raises:
        ValueError: one is of another size than the image, so that its counts would give another mask.
    """
    size = (document.image.height, document.image.width)
    for annotation in document.annotations:
        if annotation.segmentation.size != size:
            own = list(annotation.segmentation.size)
            raise ValueError(
                f"{where}: annotation {annotation.id}: the RLE's size {own} is not the image's {list(size)}"
            )
    return [annotation.segmentation.counts.encode() for annotation in document.annotations]


def document_of(image: ImageInfo, masks: pa.Table, *, first_id: int = 1) -> Document:
    """Rows of the masks table of one image as a document; SA-1B wants whole numbers as ids, so masks are counted.

    Raises:
        ValueError: a mask's height and width are not the image's.
    """
    rows = masks.to_pylist()
    if other := [row["mask_id"] for row in rows if (row["height"], row["width"]) != (image.height, image.width)]:
        raise ValueError(f"mask {other[0]} is not of the size of {image.file_name}, {image.width}x{image.height} px")
    return Document(image, tuple(_of_row(row, first_id + index) for index, row in enumerate(rows)))


def _annotation(entry: JsonObject) -> Annotation:
    segmentation = entry.child("segmentation")
    return Annotation(
        id=entry.integer("id"),
        segmentation=Segmentation(segmentation.size(), segmentation.text("counts")),
        bbox=_box(entry, "bbox"),
        area=entry.integer("area"),
        predicted_iou=entry.number("predicted_iou"),
        stability_score=entry.number("stability_score"),
        crop_box=_box(entry, "crop_box"),
        point_coords=entry.points("point_coords"),
    )


def _box(entry: JsonObject, name: str) -> Box:
    x, y, w, h = entry.numbers(name, 4)
    return x, y, w, h


def _of_row(row: dict[str, Any], number: int) -> Annotation:
    return Annotation(
        id=number,
        segmentation=Segmentation((row["height"], row["width"]), row["rle"].decode("ascii")),
        bbox=(row["bbox_x"], row["bbox_y"], row["bbox_w"], row["bbox_h"]),
        area=row["area"],
        predicted_iou=row["predicted_iou"],
        stability_score=row["stability_score"],
        crop_box=(row["crop_x"], row["crop_y"], row["crop_w"], row["crop_h"]),
        point_coords=((row["point_x"], row["point_y"]),),
    )
