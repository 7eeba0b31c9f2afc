"""Index rows of masks in files: COCO, SA-1B, or label PNGs beside pictures.

SA-1B and labels are read when a sample is made, not before, so they cost about a hundred bytes of index per image
however many masks it has.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from schemas import coco
from schemas.ids import content_hash
from schemas.json_fields import parse_object
from workflows.sources import SUFFIXES, is_hidden, list_images
from workflows.storage import S3_SCHEME, open_store
from workflows.train.index import index_row
from workflows.uris import absolute, address_of, read_manifest, stamp_of

INSTANCES = "instances.json"
"""COCO in a folder, as `sam-engine export` writes it."""


def file_rows(name: str) -> Iterator[dict[str, Any]]:
    """Rows of a JSON file or of a folder with masks. Raises ValueError or OSError (one line)."""
    return _json_file(absolute(name)) if name.endswith(".json") else _folder(name)


def _json_file(source: str) -> Iterator[dict[str, Any]]:
    data = read_manifest(source)
    if not _is_coco(data, source):
        beside = f"{source.rpartition('/')[0]}/{_plain_name(data, source)}"
        yield index_row([beside], masks_uri=source, stamp=f"{stamp_of(beside)} {content_hash(data)}")
        return
    document = coco.from_json(data, where=source)
    del data  # the listing reads the file once more
    pictures = {int(json.loads(found.metadata)["id"]): found for found in list_images(source)}
    by_image: dict[int, list[coco.Annotation]] = defaultdict(list)
    for annotation in document.annotations:
        if not annotation.iscrowd:
            by_image[annotation.image_id].append(annotation)
    for image in document.images:
        rles = [coco_rle(annotation, image, source) for annotation in by_image[image.id]]
        masks, picture = [rle for rle in rles if rle], pictures[image.id]
        yield index_row([picture.uri], height=image.height, width=image.width, rles=masks, stamp=picture.stamp)


def _plain_name(data: bytes, source: str) -> str:
    """The file of an SA-1B document's picture. Raises ValueError when it does not lie beside the document."""
    name = parse_object(data, source).child("image").text("file_name")
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise ValueError(f"{source}: file_name {name[:100]!r} is not the name of a picture beside it")
    return name


def coco_rle(annotation: coco.Annotation, image: coco.Image, source: str) -> bytes | None:
    """None where no polygon has three corners. Raises ValueError, one line, for what else has no RLE."""
    try:
        return coco.rle_of(annotation.segmentation, height=image.height, width=image.width)
    except coco.NoAreaError:
        return None
    except ValueError as error:
        raise ValueError(f"{source}: annotation {annotation.id} of {image.file_name}: {error}") from error


def _is_coco(data: bytes, source: str) -> bool:
    """Whether it is COCO's, which is not parsed for that; else it is one of SA-1B. Raises ValueError when neither."""
    if re.search(rb'"images"\s*:', data):
        return True
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source}: not JSON ({error})") from error
    if isinstance(document, dict) and "images" in document:
        return True
    if isinstance(document, dict) and {"image", "annotations"} <= document.keys():
        return False
    raise ValueError(f"{source}: neither a COCO instances JSON nor one of SA-1B")


def _folder(name: str) -> Iterator[dict[str, Any]]:
    """`images/` beside `labels/`, a COCO `instances.json`, or pictures beside the JSON of each, as SA-1B comes."""
    if not is_folder(name):
        raise ValueError(f"{name}: no such data set, folder or file")
    store = open_store(name)
    stamps = {entry.key: entry.stamp for entry in store.list() if not is_hidden(entry.key)}
    shown = [key for key in stamps if PurePosixPath(key).suffix.lower() in SUFFIXES]
    if labels := _below("labels", [key for key in shown if key.lower().endswith(".png")], name):
        pairs = _labelled(name, labels, shown)
    elif INSTANCES in stamps:
        yield from _json_file(f"{store.root}/{INSTANCES}")
        return
    elif documents := [key for key in stamps if key.endswith(".json")]:
        pairs = _documented(name, documents, shown)
    else:
        raise ValueError(f"{name}: no masks found; expected a data set, labels/*.png with images/, or SA-1B's *.json")
    for picture, masks in pairs:
        yield _beside(store.root, picture, masks, stamps)


def _labelled(name: str, labels: dict[str, str], shown: list[str]) -> Iterator[tuple[str, str]]:
    """Keys of pictures and of their label PNGs. Raises ValueError for labels without a picture."""
    if any(key.startswith("labels-2/") for key in shown):  # where an export puts those that overlap others
        raise ValueError(f"{name}: the masks in labels-2 would be left out; export as coco, or take it away")
    pictures = _below("images", shown, name)
    for place, key in labels.items():
        if place not in pictures:
            raise ValueError(f"{name}: {key} has no picture images/{place}.*")
        yield pictures[place], key


def _documented(name: str, documents: list[str], shown: list[str]) -> Iterator[tuple[str, str]]:
    """Keys of pictures and of the JSON beside each. Raises ValueError for a JSON without a picture."""
    beside = {key.rpartition(".")[0]: key for key in reversed(shown)}
    for key in documents:
        picture = beside.get(key[:-5])
        if picture is None:
            raise ValueError(f"{name}: {key} has no picture {key[:-5]}.jpg beside it")
        yield picture, key


def _beside(root: str, picture: str, masks: str, stamps: dict[str, str]) -> dict[str, Any]:
    """The row of a picture and the file of its masks, by their keys."""
    stamp = f"{stamps[picture]} {stamps[masks]}"
    return index_row([address_of(root, picture)], masks_uri=address_of(root, masks), stamp=stamp)


def _below(folder: str, keys: list[str], name: str) -> dict[str, str]:
    """The keys in a folder by their path there without ending: what a picture and its labels have in common."""
    found: dict[str, str] = {}
    for key in keys:
        if key.startswith(f"{folder}/"):
            place = key.removeprefix(f"{folder}/").rpartition(".")[0]
            if place in found:
                raise ValueError(f"{name}: {found[place]} and {key} differ in their ending alone; keep one of them")
            found[place] = key
    return found


def is_folder(place: str) -> bool:
    """Whether an address may have files below it."""
    return place.startswith(S3_SCHEME) or Path(place).is_dir()
