"""Hugging Face's other layout: pictures in `train/` beside a `metadata.jsonl`, for `load_dataset("imagefolder")`.

Each line has the columns of the Parquet layout, with `file_name` in the place of the picture.
"""

from __future__ import annotations

import json

from workflows.exchange.selection import ExportImage, Page
from workflows.exchange.writers import Job
from workflows.exchange.writers.huggingface import mask_entry

_KEY = "train/metadata.jsonl"


class ImageFolderWriter:
    """A command that was broken off writes the metadata from the beginning, but no picture twice."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._path = job.target.scratch / "metadata"
        self._file = self._path.open("w", encoding="utf-8")

    def is_done(self, page: Page) -> bool:
        return False

    def write(self, page: Page, images: list[ExportImage]) -> None:
        names = self._job.put_pictures(images, folder="train")
        for image in images:
            said = {name: getattr(image, name) for name in ("image_id", "height", "width", "licence")}
            masks = [mask_entry(row) for row in image.masks.to_pylist()]
            line = {"file_name": names[image.image_id], **said, "masks": masks}
            self._file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")

    def finish(self, images: int, masks: int) -> None:
        self._file.close()
        self._job.target.put_file(_KEY, self._path)
