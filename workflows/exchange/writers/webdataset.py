"""WebDataset: tar files of samples, each a picture and the JSON of its masks under one name.

The JSON is `{"image": {...}, "annotations": [...]}` with the fields of COCO's images and annotations.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass

from schemas.coco import annotation_entry
from workflows.exchange.entries import coco_annotations, numbered
from workflows.exchange.pictures import Picture
from workflows.exchange.selection import ExportImage, Page
from workflows.exchange.writers import Job


@dataclass(frozen=True, slots=True)
class WebDatasetWriter:
    """`train-000000.tar` and so on; equal content is equal bytes."""

    job: Job

    def is_done(self, page: Page) -> bool:
        return self.job.target.store.exists(_key(page))

    def write(self, page: Page, images: list[ExportImage]) -> None:
        categories = numbered(self.job.totals.categories)
        names = {number: name for name, number in categories.items()}
        path = self.job.target.scratch / "shard.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for image, picture in zip(images, self.job.each_picture(images, self.job.picture), strict=True):
                _add(tar, f"{image.image_id}{picture.suffix}", picture.data)
                _add(tar, f"{image.image_id}.json", _document(image, picture, categories, names))
        self.job.target.put_file(_key(page), path)

    def finish(self, images: int, masks: int) -> None:
        pass


def _key(page: Page) -> str:
    return f"train-{page.number:06d}.tar"


def _document(image: ExportImage, picture: Picture, categories: dict[str, int], names: dict[int, str]) -> bytes:
    info = {"id": image.number, "image_id": image.image_id, "height": image.height, "width": image.width}
    info |= {"file_name": f"{image.image_id}{picture.suffix}", "licence": image.licence}
    masks = [
        annotation_entry(mask) | {"category": names[mask.category_id]} for mask in coco_annotations(image, categories)
    ]
    return json.dumps({"image": info, "annotations": masks}, separators=(",", ":"), allow_nan=False).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A member without time or owner."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
