"""Label Studio's JSON export: tasks with annotations; brushes and polygons become masks.

Polygons are in percent of the picture. Boxes, points, ellipses and text are no masks and are left out with a line. One
region may be several entries of one id: its shape, its label, and what else was asked about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from schemas.coco import Origin
from schemas.ids import content_hash
from schemas.json_fields import JsonObject, as_object, is_number
from workflows.exchange.readers import IncomingImage, IncomingMask
from workflows.exchange.readers.names import PictureFolder, names_picture
from workflows.exchange.readers.rasters import brush_rle, polygon_rle
from workflows.uris import ImageRef

_MASKS = ("brushlabels", "brush", "polygonlabels", "polygon")


@dataclass(frozen=True, slots=True)
class _Region:
    """A region of an annotation, and whose it is; `label` is one that stands apart from the shape."""

    key: str
    annotator: str | None
    created_at: datetime | None
    entry: JsonObject
    label: str | None


class LabelStudioSource:
    """The whole export is in memory.

    Raises ValueError (one line) when it is none, or a picture cannot be found.
    """

    kind = "label-studio"
    automatic = False
    lost = ()

    def __init__(self, name: str, data: bytes, tasks: object, folder: PictureFolder, *, max_pixels: int) -> None:
        self.name, self.digest, self._max_pixels = name, content_hash(data), max_pixels
        if not isinstance(tasks, list):
            raise ValueError(f"{name}: a Label Studio export is a list of tasks")
        self._references: dict[str, ImageRef] = {}
        self._regions: dict[str, list[_Region]] = defaultdict(list)
        for index, task in enumerate(tasks):
            self._add(as_object(task, f"{name}: task {index}"), folder)
        if any(task.get("predictions") for task in tasks) and not any(task.get("annotations") for task in tasks):
            raise ValueError(f"{name}: predictions alone, which nobody has accepted; submit them in Label Studio first")

    def references(self) -> Iterator[ImageRef]:
        return iter(self._references.values())

    def load(self, uri: str) -> IncomingImage:
        masks: list[IncomingMask] = []
        refused: list[str] = []
        sizes = {self._size(region.entry) for region in self._regions[uri]}
        if len(sizes) > 1:
            raise ValueError(f"{self.name}: {uri} is stated to be of several sizes: {sorted(sizes)}")
        height, width = next(iter(sizes), (0, 0))
        for region in self._regions[uri]:
            try:
                masks.append(_mask(region, height, width))
            except ValueError as error:
                refused.append(f"{region.entry.where}: {str(error).removeprefix(f'{region.entry.where}: ')}")
        return IncomingImage(height, width, tuple(masks), tuple(refused))

    def _add(self, task: JsonObject, folder: PictureFolder) -> None:
        data = task.child("data")
        try:
            reference = folder.find(_picture(data))
        except ValueError as error:
            raise ValueError(f"{task.where}: {error}") from error
        self._references[reference.uri] = reference
        for annotation in task.children("annotations") if task.has("annotations") else ():
            if annotation.values.get("was_cancelled"):
                continue
            self._regions[reference.uri] += _regions(task, annotation)

    def _size(self, entry: JsonObject) -> tuple[int, int]:
        height, width = entry.integer("original_height"), entry.integer("original_width")
        if not 0 < height * width <= self._max_pixels:
            raise ValueError(f"{entry.where}: {width}x{height} px is more than the limit of {self._max_pixels:,} px")
        return height, width


def is_export(document: object) -> bool:
    """Whether a JSON document looks like one of Label Studio."""
    first = document[0] if isinstance(document, list) and document else None
    return isinstance(first, dict) and "data" in first and "annotations" in first


def _regions(task: JsonObject, annotation: JsonObject) -> Iterator[_Region]:
    """The regions of an annotation: what was asked about the whole picture is none."""
    groups: dict[str, list[JsonObject]] = {}
    for index, entry in enumerate(annotation.children("result")):
        if "value" in entry.values and (entry.has("original_width") or _is_mask(entry)):
            groups.setdefault(str(entry.values.get("id", index)), []).append(entry)
    for name, entries in groups.items():
        key = f"{task.values.get('id')}.{annotation.values.get('id')}.{name}"
        label = next((text for entry in entries if (text := _label(entry.values["value"], "labels"))), None)
        for shape in [entry for entry in entries if _is_mask(entry)] or entries[:1]:
            yield _Region(key, _person(annotation), _time(annotation), shape, label)


def _is_mask(entry: JsonObject) -> bool:
    return entry.values.get("type") in _MASKS


def _mask(region: _Region, height: int, width: int) -> IncomingMask:
    entry = region.entry
    kind = entry.text("type")
    if kind not in _MASKS:
        raise ValueError(f"{kind[:40]} is no mask")
    if entry.has("image_rotation") and entry.number("image_rotation"):
        raise ValueError("the picture was turned in Label Studio; its masks do not lie on the file")
    value = entry.child("value")
    if kind.startswith("brush"):
        rle = brush_rle(value.integers("rle"), height=height, width=width)
    else:
        corners = [(x / 100 * width, y / 100 * height) for x, y in value.points("points")]
        rle = polygon_rle(corners, height=height, width=width)
    label = _label(value.values, kind) or region.label
    details = {"id": region.key} | ({"category": label} if label else {})
    return IncomingMask(region.key, rle, Origin(annotator=region.annotator), details, region.created_at)


def _label(value: object, kind: str) -> str | None:
    """The first of the labels that a control of this kind gave."""
    labels = value.get(kind) if isinstance(value, dict) else None
    return str(labels[0]) if isinstance(labels, list) and labels else None


def _picture(data: JsonObject) -> str:
    """The picture of a task: the field `image`, or the only one that names a picture, or that is a text at all."""
    if data.has("image"):
        return data.text("image")
    texts = [value for value in data.values.values() if isinstance(value, str)]
    for found in ([text for text in texts if names_picture(text)], texts):
        if len(found) == 1:
            return found[0]
    raise ValueError("its data has no field 'image', and no other that alone names a picture")


def _person(annotation: JsonObject) -> str | None:
    """Who made an annotation: e-mail, else number."""
    person = annotation.values.get("completed_by")
    if isinstance(person, dict):
        known = person.get("email") or person.get("id")
        return None if known is None else str(known)
    return f"user {int(person)}" if is_number(person) else None


def _time(annotation: JsonObject) -> datetime | None:
    text = annotation.values.get("created_at")
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
