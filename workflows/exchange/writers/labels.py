"""Label PNGs: each pixel holds the number of its mask, 0 where there is none; pictures in `images/`.

Masks that overlap cannot share a PNG. The first that fit lie in `labels/`, the others in `labels-2/`, `labels-3/` and
so on, so that nothing is lost; `masks/*.csv` says which mask is which number in which layer.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_core.masks.rle import decode
from workflows.exchange.selection import ExportImage, Page
from workflows.exchange.writers import Job

_MOST_LABELS = 65_535
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
        self.job.each_picture(images[:-1], self._put)
        self._put(images[-1])

    def finish(self, images: int, masks: int) -> None:
        pass

    def _put(self, image: ExportImage) -> None:
        rows = image.masks.to_pylist()
        layers = [_Layer(np.zeros((image.height, image.width), np.uint16))]
        places = [_place(layers, row) for row in rows]
        for number, layer in enumerate(layers, start=1):
            self.job.target.put(f"{layer_folder(number)}/{image.image_id}.png", _png(layer.labels))
        table = _table(rows, places)
        self.job.target.put(f"masks/{image.image_id}.csv", table)


def layer_folder(number: int) -> str:
    """The folder of a layer, from 1."""
    return "labels" if number == 1 else f"labels-{number}"


@dataclass(slots=True)
class _Layer:
    """Labels of an image, uint16 [H, W], and how many masks they are."""

    labels: NDArray[np.uint16]
    masks: int = 0


def _place(layers: list[_Layer], row: dict[str, Any]) -> tuple[int, int]:
    """Draw a mask into the first layer in which its pixels are free, or into a new one; layer and label, from 1.

    Only the mask's box is looked at: over whole layers, an image of many masks would take minutes.
    """
    x, y, w, h = (row[f"bbox_{side}"] for side in "xywh")
    box = np.s_[y : y + h, x : x + w]
    inside = decode(row["rle"], layers[0].labels.shape)[box]
    for number, layer in enumerate(_and_one_more(layers), start=1):
        labels = layer.labels[box]
        if layer.masks < _MOST_LABELS and not labels[inside].any():
            layer.masks += 1
            labels[inside] = layer.masks
            return number, layer.masks
    raise AssertionError("a new layer has room")


def _and_one_more(layers: list[_Layer]) -> Iterator[_Layer]:
    yield from list(layers)
    layers.append(_Layer(np.zeros_like(layers[0].labels)))
    yield layers[-1]


def _table(rows: list[dict[str, Any]], places: list[tuple[int, int]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "label", *_SAID])
    for row, place in zip(rows, places, strict=True):
        writer.writerow([*place, *("" if row[name] is None else row[name] for name in _SAID)])
    return text.getvalue().encode()


def _png(labels: NDArray[np.uint16]) -> bytes:
    done, data = cv2.imencode(".png", labels)
    assert done
    return data.tobytes()
