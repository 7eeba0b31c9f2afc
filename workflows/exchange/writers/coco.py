"""COCO and LVIS: one JSON of everything, put together on disk, never in memory; pictures in `images/`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.coco import annotation_entry
from workflows.exchange.entries import OBJECT, coco_annotations, numbered
from workflows.exchange.selection import ExportImage, Page
from workflows.exchange.writers import Job

_RARE, _COMMON = 10, 100  # images with the category, at most (LVIS, arXiv 1908.03195, section 3.1)


class CocoWriter:
    """`instances.json`. A command that was broken off writes it from the beginning, but no picture twice."""

    key = "instances.json"

    def __init__(self, job: Job) -> None:
        self._job = job
        self._categories = numbered(job.totals.categories)
        self._licences = {name: number for number, name in enumerate(job.totals.licences, start=1)}
        self._images = _JsonList(job.target.scratch / "images")
        self._annotations = _JsonList(job.target.scratch / "annotations")
        self._counts = {name: [0, 0] for name in self._categories}  # images, masks

    def is_done(self, page: Page) -> bool:
        return False

    def write(self, page: Page, images: list[ExportImage]) -> None:
        names = self._job.put_pictures(images)
        for image in images:
            here = Counter(name or OBJECT for name in image.masks["category"].to_pylist())
            self._images.add(self._image(image, names[image.image_id], here))
            for annotation in coco_annotations(image, self._categories):
                self._annotations.add(self._annotation(annotation_entry(annotation)))
            for name, masks in here.items():
                self._counts[name][0] += 1
                self._counts[name][1] += masks

    def finish(self, images: int, masks: int) -> None:
        whole = self._job.target.scratch / "whole"
        ends = {"info": {"description": "exported by sam-engine"}, "licenses": self._stated_licences()}
        parts = {"images": self._images.close(), "annotations": self._annotations.close()}
        _join(whole, ends | {"categories": [self._category(name) for name in self._used()]}, parts)
        self._job.target.put_file(self.key, whole)

    def _image(self, image: ExportImage, name: str, here: Mapping[str, int]) -> dict[str, Any]:
        licence = {"license": self._licences[image.licence]} if image.licence else {}
        return {"id": image.number, "file_name": name, "height": image.height, "width": image.width, **licence}

    def _annotation(self, entry: dict[str, object]) -> dict[str, object]:
        return entry

    def _category(self, name: str) -> dict[str, Any]:
        return {"id": self._categories[name], "name": name, "supercategory": ""}

    def _used(self) -> list[str]:
        """Names of the categories of the file; `object` only where a mask has no other."""
        return [name for name in self._categories if self._counts[name][1]] or list(self._categories)[:1]

    def _stated_licences(self) -> list[dict[str, Any]]:
        return [{"id": number, "name": name, "url": ""} for name, number in self._licences.items()]


class LvisWriter(CocoWriter):
    """`lvis.json`: COCO with what the federated evaluation asks of images and categories. No image states what it does
    not show, and none claims to show all of a category: masks were looked for, not every object of a list."""

    key = "lvis.json"

    def _image(self, image: ExportImage, name: str, here: Mapping[str, int]) -> dict[str, Any]:
        entry = super()._image(image, name, here)
        numbers = sorted(self._categories[category] for category in here)
        return {"license": 0, **entry, "coco_url": name, "flickr_url": "", "neg_category_ids": []} | {
            "not_exhaustive_category_ids": numbers
        }

    def _annotation(self, entry: dict[str, object]) -> dict[str, object]:
        if entry["iscrowd"]:
            raise ValueError(f"mask {entry['mask_id']} is a crowd, which LVIS does not know: use --format coco")
        return {name: value for name, value in entry.items() if name != "iscrowd"}

    def _category(self, name: str) -> dict[str, Any]:
        images, masks = self._counts[name]
        frequency = "r" if images <= _RARE else "c" if images <= _COMMON else "f"
        said = {"synset": f"{name}.n.01", "synonyms": [name], "def": "", "frequency": frequency}
        return {"id": self._categories[name], "name": name, **said, "image_count": images, "instance_count": masks}


class _JsonList:
    """The items of a JSON list, written to a file as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w", encoding="utf-8")
        self._separator = ""

    def add(self, item: Mapping[str, object]) -> None:
        self._file.write(self._separator + json.dumps(item, separators=(",", ":"), allow_nan=False))
        self._separator = ",\n"

    def close(self) -> Path:
        self._file.close()
        return self._path


def _join(whole: Path, ends: Mapping[str, object], lists: Mapping[str, Path]) -> None:
    """One JSON object of small values and long lists."""
    with whole.open("wb") as file:
        start = json.dumps(dict(ends), separators=(",", ":")).encode()[:-1]
        file.write(start)
        for name, path in lists.items():
            file.write(f',"{name}":[\n'.encode())
            with path.open("rb") as part:
                while chunk := part.read(1 << 20):
                    file.write(chunk)
            file.write(b"]")
            path.unlink()
        file.write(b"}\n")
