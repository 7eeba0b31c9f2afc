"""Captioned masks: COCO's instances JSON whose annotations say in words which object they are, as RefCOCO's do.

    {"id": 7, "image_id": 1, "category_id": 1, "segmentation": ..., "area": ..., "bbox": ..., "iscrowd": 0,
     "caption": "the small striped ring left of a red star", "split": "unseen_combination"}

caption: a text, or a list of texts that each name this mask and no other of its image; `phrase` means the same.
Annotations without one are masks like others, asked for by nobody.
split: which part of the data the annotation's captions belong to, any text; figures are reported by it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from schemas import coco
from schemas.json_fields import JsonObject
from schemas.json_stream import read_object

_NAMES = ("caption", "phrase")


@dataclass(frozen=True, slots=True)
class Caption:
    """What names one mask: texts, each enough by itself, and the split that they belong to."""

    texts: tuple[str, ...]
    split: str | None = None


def to_json(document: coco.Document, captions: Mapping[int, Caption]) -> str:
    """The text of an instances file whose annotations are captioned; captions are by annotation id."""
    whole = json.loads(coco.to_json(document))
    for entry in whole["annotations"]:
        if caption := captions.get(entry["id"]):
            entry["caption"] = caption.texts[0] if len(caption.texts) == 1 else list(caption.texts)
            if caption.split is not None:
                entry["split"] = caption.split
    return json.dumps(whole, separators=(",", ":"), allow_nan=False)


def from_json(text: str | bytes, *, where: str) -> dict[int, Caption]:
    """Captions by annotation id of an instances file.

    Args:
        where: name of the file, for messages.

    Raises:
        ValueError: one line that says which entry is at fault: no JSON, an empty caption, half of a character, two
            annotations of one id of which one is captioned.
    """
    found: dict[int, Caption | None] = {}

    def keep(entry: JsonObject) -> None:
        caption, number = _caption(entry), entry.integer("id")
        if number in found and (caption or found[number]):
            raise ValueError(f"{entry.where}: another annotation has the id {number}, too")
        found[number] = caption

    read_object(text, where, {"annotations": keep}).items("annotations")
    return {number: caption for number, caption in found.items() if caption}


def _caption(entry: JsonObject) -> Caption | None:
    name = next((name for name in _NAMES if entry.has(name)), None)
    if name is None:
        return None
    texts = entry.items(name) if isinstance(entry.values[name], list) else [entry.text(name)]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{entry.where}: {name} is empty; leave it out where nothing names the mask")
    split = entry.text("split") if entry.has("split") else None
    for field, value in ((name, "".join(map(str, texts))), ("split", split or "")):
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError(f"{entry.where}: {field} has half of a character in it, which is no text")
    return Caption(tuple(str(text).strip() for text in texts), split)
