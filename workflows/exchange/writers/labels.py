"""Label PNGs: each pixel holds the number of its mask, 0 where there is none; pictures in `images/`.

Masks that overlap cannot share a PNG. The first that fit lie in `labels/`, the others in `labels-2/`, `labels-3/` and
so on, so that nothing is lost; `masks/*.csv` says which mask is which number in which layer.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from sam_core.masks.layers import Labels, label_layers
from workflows.exchange.selection import ExportImage, Page
from workflows.exchange.writers import Job, exhaust

_SAID = ("mask_id", "predicted_iou", "stability_score", "category", "stage", "annotator", "run_id", "model_id")


@dataclass(frozen=True, slots=True)
class LabelsWriter:
    """Pictures, layers of labels, and a table of masks per image; the last table of a page commits it."""

    job: Job

    def is_done(self, page: Page) -> bool:
        return self.job.target.store.exists(f"masks/{page.rows[-1]['image_id']}.csv")

    def write(self, page: Page, images: list[ExportImage]) -> None:
        if self.job.pictures:
            self.job.put_pictures(images)
        exhaust(self.job.each_picture(images[:-1], self._put, unpacked=True))
        self._put(images[-1])

    def finish(self, images: int, masks: int) -> None:
        pass

    def _put(self, image: ExportImage) -> None:
        rows = image.masks.to_pylist()
        places = [(0, 0)] * len(rows)
        layers = label_layers([row["rle"] for row in rows], (image.height, image.width))
        for number, (labels, drawn) in enumerate(layers, start=1):
            self.job.target.put(f"{layer_folder(number)}/{image.image_id}.png", _png(labels))
            for row in np.flatnonzero(drawn).tolist():
                places[row] = (number, int(drawn[row]))
        self.job.target.put(f"masks/{image.image_id}.csv", _table(rows, places))


def layer_folder(number: int) -> str:
    """The folder of a layer, from 1."""
    return "labels" if number == 1 else f"labels-{number}"


def _table(rows: list[dict[str, Any]], places: list[tuple[int, int]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "label", *_SAID])
    for row, place in zip(rows, places, strict=True):
        writer.writerow([*place, *("" if row[name] is None else row[name] for name in _SAID)])
    return text.getvalue().encode()


def _png(labels: Labels) -> bytes:
    done, data = cv2.imencode(".png", np.ascontiguousarray(labels))
    assert done
    return data.tobytes()
