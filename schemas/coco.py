"""COCO's instances JSON, and every way in which it writes a mask brought to the RLE of our tables.

Field names are COCO's (cocodataset.org, "Data format"). Boxes are xywh in px; polygons are x, y, x, y, ... in px.
"""

import json
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from schemas.json_fields import JsonObject, fields_of
from schemas.json_stream import Each, read_object
from schemas.rle import parse_runs

Polygon = Sequence[float]
_ORIGIN_TEXTS = ("stage", "annotator", "run_id", "model_id")
_ORIGIN_SCORES = ("predicted_iou", "stability_score")
_NUMBERS = frozenset((int, float))
_FEWEST_COORDINATES = 6
_MOST_PIXELS = 2**32
_LONGEST_OUTLINE = 10_000_000
"""Of a polygon, px: pycocotools takes 40 bytes for each, and does not look whether it gets them."""
_FARTHEST = 2**28
"""A corner, px: five times as much is more than its 32 bits hold from 2^29 on."""


@dataclass(frozen=True, slots=True)
class CompressedRle:
    """An RLE as pycocotools writes it: size (height, width), counts as text."""

    size: tuple[int, int]
    counts: str


@dataclass(frozen=True, slots=True)
class PlainRle:
    """An RLE as numbers, which COCO uses for crowds: size (height, width), run lengths down the columns."""

    size: tuple[int, int]
    counts: Sequence[int]


Segmentation = tuple[Polygon, ...] | CompressedRle | PlainRle


class NoAreaError(ValueError):
    """Polygons of which none has three corners, as in some annotations of COCO."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image; height and width in px. LVIS names its files by `coco_url` alone."""

    id: int
    file_name: str
    height: int
    width: int
    license: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a mask comes from and what its maker says of it: fields beyond COCO's, which its tools pass over.

    point_coords are xy in px, crop_box xywh in px; scores are fractions. None where nothing is known.
    """

    mask_id: str | None = None
    stage: str | None = None
    annotator: str | None = None
    run_id: str | None = None
    model_id: str | None = None
    predicted_iou: float | None = None
    stability_score: float | None = None
    point_coords: tuple[tuple[float, float], ...] | None = None
    crop_box: tuple[float, float, float, float] | None = None


_UNKNOWN = Origin()
"""Of the masks of a file that says nothing of it: one for all."""
_ORIGIN_NAMES = frozenset(field.name for field in fields(Origin))


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object; area in px, 0 or less where the file states none, bbox xywh in px, None where it states none, iscrowd
    1 where one RLE covers many objects."""

    id: int
    image_id: int
    category_id: int
    segmentation: Segmentation
    area: float
    bbox: tuple[float, float, float, float] | None
    iscrowd: int = 0
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of object. frequency: LVIS's f, c or r, "" elsewhere."""

    id: int
    name: str
    supercategory: str = ""
    frequency: str = ""


@dataclass(frozen=True, slots=True)
class License:
    """A licence that images refer to by its id."""

    id: int
    name: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """An instances file."""

    images: tuple[Image, ...]
    annotations: tuple[Annotation, ...]
    categories: tuple[Category, ...]
    licenses: tuple[License, ...] = ()


def to_json(document: Document) -> str:
    """The text of an instances file."""
    whole = asdict(document) | {
        "annotations": [annotation_entry(annotation) for annotation in document.annotations],
        "categories": [category_entry(category) for category in document.categories],
    }
    return json.dumps(whole, separators=(",", ":"), allow_nan=False)


def category_entry(category: Category) -> dict[str, object]:
    """A category as JSON has it; LVIS alone says how frequent it is."""
    fields = asdict(category)
    return fields if category.frequency else {name: fields[name] for name in fields if name != "frequency"}


def annotation_entry(annotation: Annotation) -> dict[str, object]:
    """An annotation as JSON has it: what is known of its origin stands beside COCO's own fields."""
    origin = {name: value for name, value in fields_of(annotation.origin).items() if value is not None}
    fields = {name: getattr(annotation, name) for name in ("id", "image_id", "category_id", "area", "iscrowd")}
    fields |= {"bbox": annotation.bbox} if annotation.bbox else {}
    return {**fields, "segmentation": _segmentation_entry(annotation.segmentation), **origin}


def _segmentation_entry(segmentation: Segmentation) -> object:
    if isinstance(segmentation, tuple):
        return [list(polygon) for polygon in segmentation]
    counts = segmentation.counts
    return {"size": segmentation.size, "counts": counts if isinstance(counts, str) else list(counts)}


def from_json(text: str | bytes, *, where: str) -> Document:
    """The document of an instances file; fields not named here are passed over.

    Args:
        where: name of the file, for messages.

    Raises:
        ValueError: one line that says which entry lacks what, or that two images have the same id.
    """
    root = read_object(text, where, _READ)
    images, annotations = root.items("images"), root.items("annotations")
    categories, licenses = (root.items(name) if root.has(name) else [] for name in ("categories", "licenses"))
    return Document(
        images=_distinct(cast(list[Image], images), where),
        annotations=tuple(cast(list[Annotation], annotations)),
        categories=tuple(cast(list[Category], categories)),
        licenses=tuple(cast(list[License], licenses)),
    )


def rle_of(segmentation: Segmentation, *, height: int, width: int) -> bytes:
    """Compressed counts of a segmentation over an image of the given size (px); polygons are joined.

    Polygons are drawn by pycocotools, so that masks equal those of COCO's own tools.

    Raises:
        NoAreaError: no polygon has three corners.
        ValueError: an RLE is of another size, malformed or does not cover its image, polygons lie far outside or go to
            and fro beyond measure, or the image has no pixels or 2^32 and more.
    """
    if not 0 < height * width < _MOST_PIXELS:
        raise ValueError(f"an image of {width}x{height} px has no RLE: pycocotools counts in 32 bits")
    if isinstance(segmentation, tuple):
        return _rle_of_polygons(segmentation, height, width)
    if segmentation.size != (height, width):
        raise ValueError(f"the RLE's size {list(segmentation.size)} is not the image's [{height}, {width}]")
    if isinstance(segmentation, PlainRle):
        return _rle_of_numbers(segmentation)
    counts = segmentation.counts.encode()
    if int(parse_runs(pa.array([counts])).pixels[0]) != height * width:
        raise ValueError(f"the RLE does not cover its image of {width}x{height} px")
    return counts


def _rle_of_numbers(rle: PlainRle) -> bytes:
    height, width = rle.size
    if sum(rle.counts) != height * width or min(rle.counts, default=0) < 0:
        raise ValueError(f"the RLE does not cover its image of {width}x{height} px")
    counts: bytes = coco_mask.frPyObjects({"size": [height, width], "counts": list(rle.counts)}, height, width)[
        "counts"
    ]
    return counts


def _rle_of_polygons(polygons: tuple[Polygon, ...], height: int, width: int) -> bytes:
    """Fewer than three corners enclose nothing, and pycocotools would take two for a box; they are left out."""
    drawable = [list(polygon) for polygon in polygons if len(polygon) >= _FEWEST_COORDINATES]
    if not drawable:
        raise NoAreaError("no polygon has three corners")
    for polygon in drawable:
        corners = np.array(polygon[: len(polygon) // 2 * 2]).reshape(-1, 2)
        near = (corners >= [-width, -height]) & (corners <= [2 * width, 2 * height])  # which NaN never is
        if len(polygon) % 2 or not near.all() or np.abs(corners).max() > _FARTHEST:
            raise ValueError(f"a polygon has half a corner, or lies far outside of the image of {width}x{height} px")
        if _outline(corners) > _LONGEST_OUTLINE:
            raise ValueError(f"a polygon has an outline of more than {_LONGEST_OUTLINE:,} px")
    counts: bytes = coco_mask.merge(coco_mask.frPyObjects(drawable, height, width))["counts"]
    return counts


def _outline(corners: NDArray[np.float64]) -> float:
    """The length of a closed polygon [N, 2] in px, diagonals as their longer side."""
    return float(np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum())


def name_of_url(url: str) -> str:
    """`val2017/000000397133.jpg` of the address by which LVIS names a picture of COCO."""
    return "/".join(url.split("/")[-2:])


def _distinct(images: Iterable[Image], where: str) -> tuple[Image, ...]:
    """The images, of one that is listed twice the first. Raises ValueError when two others share an id."""
    known: dict[int, Image] = {}
    for image in images:
        if (other := known.setdefault(image.id, image)) != image:
            names = f"{image.id}: {other.file_name!r}, {image.file_name!r}"
            raise ValueError(f"{where}: two images have the same id, so whose the masks are cannot be told ({names})")
    return tuple(known.values())


def _image(entry: JsonObject) -> Image:
    return Image(
        id=entry.integer("id"),
        file_name=entry.text("file_name") if entry.has("file_name") else name_of_url(entry.text("coco_url")),
        height=entry.integer("height"),
        width=entry.integer("width"),
        license=entry.integer("license") if entry.has("license") else None,
    )


def _annotation(entry: JsonObject) -> Annotation:
    box = entry.numbers("bbox", 4) if entry.values.get("bbox") else None
    return Annotation(
        id=entry.integer("id"),
        image_id=entry.integer("image_id"),
        category_id=entry.integer("category_id"),
        segmentation=_segmentation(entry),
        area=entry.number("area") if entry.has("area") else 0.0,
        bbox=(box[0], box[1], box[2], box[3]) if box else None,
        iscrowd=_is_crowd(entry),
        origin=_origin(entry),
    )


def _is_crowd(entry: JsonObject) -> int:
    """0 or 1, which some writers state as true and false."""
    value = entry.values.get("iscrowd")
    if isinstance(value, bool):
        return int(value)
    return 0 if value is None else entry.integer("iscrowd")


def _origin(entry: JsonObject) -> Origin:
    if entry.values.keys().isdisjoint(_ORIGIN_NAMES):
        return _UNKNOWN
    mask_id = entry.text("mask_id") if entry.has("mask_id") else None
    stage, annotator, run_id, model_id = (  # each once in memory, as most masks of a file have the same
        sys.intern(entry.text(name)) if entry.has(name) else None for name in _ORIGIN_TEXTS
    )
    predicted_iou, stability_score = (entry.number(name) if entry.has(name) else None for name in _ORIGIN_SCORES)
    points = entry.points("point_coords") if entry.has("point_coords") else None
    x, y, w, h = entry.numbers("crop_box", 4) if entry.has("crop_box") else (0.0, 0.0, 0.0, 0.0)
    crop = (x, y, w, h) if entry.has("crop_box") else None
    return Origin(mask_id, stage, annotator, run_id, model_id, predicted_iou, stability_score, points, crop)


def _segmentation(entry: JsonObject) -> Segmentation:
    value = entry.values.get("segmentation")
    if isinstance(value, list):
        return tuple(_polygon(polygon, entry.where) for polygon in value)
    rle = entry.child("segmentation")
    size = rle.size()
    if isinstance(rle.values.get("counts"), str):
        return CompressedRle(size, rle.text("counts"))
    counts = rle.integers("counts")
    try:
        return PlainRle(size, array("q", counts))
    except OverflowError:
        return PlainRle(size, counts)


def _polygon(value: object, where: str) -> Polygon:
    """As an array, a coordinate takes 8 bytes rather than 32; most of a file are these."""
    if isinstance(value, list) and _NUMBERS.issuperset(map(type, value)):
        with suppress(OverflowError):  # an int of more than a float holds
            polygon = array("d", value)
            if np.isfinite(polygon).all():
                return polygon
    raise ValueError(f"{where}: segmentation must be an RLE or a list of polygons, each a list of numbers")


def _category(entry: JsonObject) -> Category:
    supercategory = entry.text("supercategory") if entry.has("supercategory") else ""
    frequency = entry.text("frequency") if entry.has("frequency") else ""
    return Category(entry.integer("id"), entry.text("name"), supercategory, frequency)


def _license(entry: JsonObject) -> License:
    return License(entry.integer("id"), entry.text("name"), entry.text("url") if entry.has("url") else "")


_READ: Mapping[str, Each] = {
    "images": _image,
    "annotations": _annotation,
    "categories": _category,
    "licenses": _license,
}
