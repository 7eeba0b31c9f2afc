"""Task `instances`: masks for the boxes of any detector, refined once, by COCO's average precision (paper §7.4, §D.4).

A box asks for three masks; the logits of the most confident one go back with the box, which makes two prompts, and so
the model's single output for several prompts is the answer (paper §A). Scores stay the detector's.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from sam_core.geometry import masks_at_once
from sam_core.masks import kernels, rle
from sam_core.metrics.average_precision import Detections, Matches, average_precision, match_detections
from sam_core.metrics.iou import iou_matrix
from sam_core.metrics.recall import SIZES, THRESHOLDS, of_size
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, decode, encode
from schemas.evaluation import INSTANCE_ROWS, PLAN
from schemas.json_fields import as_object
from workflows.evaluate.commands import InstancesConfig
from workflows.evaluate.paper import INSTANCES
from workflows.evaluate.sampling import draw_images
from workflows.evaluate.task import Bench, Figure, published
from workflows.evaluate.truth import TrueMasks, TruthSet, open_set, read_image, read_masks, require_size
from workflows.uris import read_manifest

BOXES_AT_ONCE = 16


class Drawn(NamedTuple):
    """The mask of a box: COCO compressed counts, and what the model thinks of it."""

    counts: bytes
    predicted_iou: float


@dataclass(frozen=True, slots=True)
class Instances:
    """COCO AP of one set; every category that has a true mask counts the same."""

    config: InstancesConfig

    needs_model = True
    schema = INSTANCE_ROWS

    def plan(self) -> pa.Table:
        config = self.config
        if len(config.data) != 1:
            raise ValueError(f"instances takes one set, not {len(config.data)}: a results file belongs to one")
        truth = open_set(config.data[0], image_folder=config.image_folder)
        if truth.rows["image_id"].null_count:
            raise ValueError(f"{truth.place}: instances needs a COCO JSON, whose image ids the results file names")
        boxes = read_boxes(config.boxes)
        if not boxes:
            raise ValueError(f"{config.boxes}: no boxes")
        rows = [row | {"boxes": boxes.pop(row["image_id"], [])} for row in truth.rows.to_pylist()]
        if boxes:
            raise ValueError(f"{config.boxes}: image_id {next(iter(boxes))} is not in {truth.place}")
        with_boxes = TruthSet(truth.name, truth.place, pa.Table.from_pylist(rows, PLAN))
        return draw_images(with_boxes, seed=config.seed, limit=config.limit)

    def measure(self, row: Mapping[str, Any], bench: Bench) -> list[dict[str, Any]]:
        boxes = row["boxes"]
        if not boxes:
            return []
        masks = read_masks(row, bench.reader)
        image = read_image(row, bench.reader, max_pixels=bench.max_pixels)
        require_size(image, masks)
        xyxy = np.array([box["xywh"] for box in boxes], np.float32)
        xyxy[:, 2:] += xyxy[:, :2]
        drawn = list(masks_of_boxes(bench.model, image, xyxy))
        by_category: defaultdict[int, list[int]] = defaultdict(list)
        for place, box in enumerate(boxes):
            by_category[box["category"]].append(place)
        return [
            entry
            for category, places in sorted(by_category.items())
            for entry in _rows(row, category, [boxes[p]["score"] for p in places], [drawn[p] for p in places], masks)
        ]

    def figures(self, rows: pa.Table, plan: pa.Table) -> list[Figure]:
        found = average_precision(list(_categories(rows, plan).values()))
        name = plan["set"][0].as_py()
        measured = {
            "AP": found.all,
            "AP small": found.small,
            "AP medium": found.medium,
            "AP large": found.large,
            "AP50": found.ap50,
            "AP75": found.ap75,
        }
        return [
            *(Figure(name, label, value) for label, value in measured.items() if not np.isnan(value)),
            Figure(name, "boxes", len(rows), "count"),
            Figure(name, "images", len(plan), "count"),
            *published(INSTANCES),
        ]


def read_boxes(path: str) -> dict[int, list[dict[str, Any]]]:
    """Boxes by image id of a COCO results file, best first. Raises ValueError or OSError (one line)."""
    try:
        entries = json.loads(read_manifest(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path}: a COCO results file is a list of image_id, category_id, bbox and score")
    boxes: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for number, value in enumerate(entries):
        entry = as_object(value, f"{path}: entry {number}")
        xywh = entry.numbers("bbox", 4)
        if min(xywh[2:]) <= 0:
            raise ValueError(f"{entry.where}: bbox has no area: {list(xywh)} (x, y, width, height)")
        box = {"category": entry.integer("category_id"), "score": entry.number("score"), "xywh": list(xywh)}
        boxes[entry.integer("image_id")].append(box)
    return {image: sorted(found, key=lambda box: -box["score"]) for image, found in boxes.items()}


def masks_of_boxes(sam: Sam, image: NDArray[np.uint8], xyxy: NDArray[np.float32]) -> Iterator[Drawn]:
    """One mask for each box, float32 [N, 4] px of the image."""
    with torch.inference_mode():
        embedding = encode(sam, [image])
        at_once = masks_at_once(image.shape[:2], BOXES_AT_ONCE)  # how many there are moves the last bits of logits
        for start in range(0, len(xyxy), at_once):
            yield from _refined(sam, embedding, torch.from_numpy(xyxy[start : start + at_once]))


def _refined(sam: Sam, embedding: ImageEmbedding, boxes: torch.Tensor) -> Iterator[Drawn]:
    first = decode(sam, embedding, Prompts(boxes=boxes), multimask=True)
    second = decode(sam, embedding, Prompts(boxes=boxes, mask_logits=first.best().logits), multimask=False)
    runs = kernels.measure(second.logits[:, 0], second.frame, offset=0.0).runs
    return map(Drawn, rle.compress_all(*rle.joined(list(runs))), second.iou[:, 0].tolist())


def _rows(
    row: Mapping[str, Any], category: int, scores: list[float], drawn: list[Drawn], masks: TrueMasks
) -> Iterator[dict[str, Any]]:
    """The detections of one category, best first, with what became of each. Those beyond COCO's limit are left out."""
    same = masks.at(np.flatnonzero(masks.categories == category))
    found = detections(np.array(scores), [each.counts for each in drawn], same)
    matches = [match_detections(found, size) for size in SIZES]
    order = np.argsort(-found.scores, kind="stable")[: len(matches[0].scores)]
    for place, which in enumerate(order):
        yield {
            "set": row["set"],
            "name": row["name"],
            "image_id": row["image_id"],
            "category": category,
            "score": float(found.scores[which]),
            "predicted_iou": drawn[which].predicted_iou,
            "area": int(found.areas[which]),
            "height": masks.size[0],
            "width": masks.size[1],
            "rle": drawn[which].counts,
            "hit": np.concatenate([each.hit[place] for each in matches]).tolist(),
            "ignored": np.concatenate([each.ignored[place] for each in matches]).tolist(),
        }


def detections(scores: NDArray[np.float64], counts: list[bytes], masks: TrueMasks) -> Detections:
    """Scored masks of one category against the true masks of that category."""
    iou = iou_matrix(counts, masks.rles, masks.size, crowd=masks.crowd.tolist())
    areas = np.array([rle.area(each) for each in counts], np.float64)
    return Detections(scores, areas, iou, masks.areas, masks.crowd)


def _categories(rows: pa.Table, plan: pa.Table) -> dict[int, dict[str, Matches]]:
    """By category and size the matches of all images in the order of their ids, as COCOeval joins them."""
    by_category: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    columns = ["image_id", "category", "score", "hit", "ignored"]
    for entry in rows.select(columns).sort_by("image_id").to_pylist():
        by_category[entry["category"]].append(entry)
    truth: defaultdict[int, list[float]] = defaultdict(list)
    for row in plan.select(["annotations"]).to_pylist():
        for annotation in row["annotations"]:
            if not annotation["crowd"]:
                truth[annotation["category"]].append(annotation["area"])
    return {
        category: dict(zip(SIZES, _matches(by_category[category], np.array(areas)), strict=True))
        for category, areas in sorted(truth.items())
    }


def _matches(entries: list[dict[str, Any]], areas: NDArray[np.float64]) -> Iterator[Matches]:
    shape = (len(entries), len(SIZES), len(THRESHOLDS))
    scores = np.array([entry["score"] for entry in entries], np.float64)
    hit = np.array([entry["hit"] for entry in entries], np.bool_).reshape(shape)
    ignored = np.array([entry["ignored"] for entry in entries], np.bool_).reshape(shape)
    for place, size in enumerate(SIZES):
        yield Matches(scores, hit[:, place], ignored[:, place], int(of_size(areas, size).sum()))
