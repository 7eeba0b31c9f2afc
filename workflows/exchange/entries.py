"""Masks of our tables as COCO annotations, which several formats hold: COCO, LVIS, Hugging Face and WebDataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schemas import coco
from workflows.exchange.selection import ExportImage

OBJECT = "object"
"""The category of a mask that has none: SAM's masks are of no class."""
_ORIGIN = ("mask_id", "stage", "annotator", "run_id", "model_id", "predicted_iou", "stability_score")


def coco_annotations(image: ExportImage, categories: Mapping[str, int]) -> Iterator[coco.Annotation]:
    """The masks of an image, numbered through the export.

    Args:
        categories: name of each category to its number.
    """
    for index, row in enumerate(image.masks.to_pylist()):
        yield coco.Annotation(
            id=image.first_mask + index,
            image_id=image.number,
            category_id=categories[row["category"] or OBJECT],
            segmentation=coco.CompressedRle((row["height"], row["width"]), row["rle"].decode("ascii")),
            area=row["area"],
            bbox=(row["bbox_x"], row["bbox_y"], row["bbox_w"], row["bbox_h"]),
            iscrowd=int(row["crowd"] == "1"),
            origin=_origin(row),
        )


def numbered(names: tuple[str, ...]) -> dict[str, int]:
    """Categories counted from 1: `object`, then the names in order."""
    return {name: number for number, name in enumerate(dict.fromkeys([OBJECT, *names]), start=1)}


def _origin(row: Mapping[str, Any]) -> coco.Origin:
    point = None if row["point_x"] is None else ((row["point_x"], row["point_y"]),)
    crop = None if row["crop_x"] is None else (row["crop_x"], row["crop_y"], row["crop_w"], row["crop_h"])
    return coco.Origin(**{name: row[name] for name in _ORIGIN}, point_coords=point, crop_box=crop)
