"""The one join of the two houses: what the generator says about an image <-> rows of the tables."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa

from sam_core.masks.batch import Generation, MaskRecords
from schemas.ids import mask_id
from schemas.records import RunRecord
from schemas.tables import MASKS, OUTCOMES, REJECTION_REASONS, STEPS, Status, as_stored
from schemas.validate import check_masks

_BOX = ("x", "y", "w", "h")


@dataclass(frozen=True, slots=True)
class ImageResult:
    """How one image ended. `generation` is there when status is ok, `error_class` and message when it is not.

    Seconds are wall-clock; `started_at` and `finished_at` are UTC.
    """

    image_id: str
    status: Status
    started_at: datetime
    finished_at: datetime
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    generation: Generation | None = None
    error_class: str | None = None
    error_message: str | None = None

    @property
    def n_masks(self) -> int:
        return len(self.generation.masks) if self.generation else 0


def mask_table(run: RunRecord, results: Sequence[ImageResult]) -> pa.Table:
    """The rows of schemas.tables.MASKS for all masks that a shard kept."""
    tables = [
        _image_masks(run, result.image_id, result.generation.masks)
        for result in results
        if result.generation and result.n_masks
    ]
    return pa.concat_tables([MASKS.empty_table(), *tables])


def checked(run: RunRecord, results: Sequence[ImageResult]) -> list[ImageResult]:
    """The results, where an image whose masks break a rule of schemas.validate has become an error.

    All masks are checked at once, which costs a hundredth of checking image by image, and one by one only if one fails.
    """
    if _complaint(run, results) is None:
        return list(results)
    return [_checked_alone(run, result) for result in results]


def mask_records(rows: pa.Table) -> MaskRecords:
    """The masks of one image out of rows of MASKS, in the order of the rows. Raises ValueError when there are none."""
    if not len(rows):
        raise ValueError("no mask rows, hence no image size")
    column = {name: rows[name].to_numpy() for name in rows.column_names if name != "rle"}
    return MaskRecords(
        size=(int(column["height"][0]), int(column["width"][0])),
        rle=tuple(rows["rle"].to_pylist()),
        boxes=np.stack([column[f"bbox_{side}"] for side in _BOX], axis=1).astype(np.int64),
        areas=column["area"],
        predicted_iou=column["predicted_iou"],
        stability_score=column["stability_score"],
        points=np.stack([column["point_x"], column["point_y"]], axis=1),
        crop_boxes=np.stack([column[f"crop_{side}"] for side in _BOX], axis=1),
    )


def outcome_table(run_id: str, shard: int, results: Sequence[ImageResult]) -> pa.Table:
    """The rows of schemas.tables.OUTCOMES for the images of a shard."""
    same = {"run_id": run_id, "shard": shard, "host": socket.gethostname(), "worker": str(os.getpid())}
    rows = [same | _outcome(result) for result in results]
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in OUTCOMES]
    return pa.table(columns, schema=OUTCOMES)


def step_seconds(results: Sequence[ImageResult]) -> dict[str, float]:
    """Seconds that the images of a shard took together, by step of schemas.tables.STEPS."""
    each = [_seconds(result) for result in results]
    return {step: sum(row[f"seconds_{step}"] for row in each) for step in STEPS}


def _checked_alone(run: RunRecord, result: ImageResult) -> ImageResult:
    error = _complaint(run, [result])
    if error is None:
        return result
    message = " ".join(str(error).split())[:500]
    name = type(error).__name__
    return replace(result, status=Status.ERROR, generation=None, error_class=name, error_message=message)


def _complaint(run: RunRecord, results: Sequence[ImageResult]) -> Exception | None:
    try:
        check_masks(mask_table(run, results))
    except Exception as error:  # arrays of a wrong shape or type fail in ways of their own
        return error
    return None


def _image_masks(run: RunRecord, image_id: str, masks: MaskRecords) -> pa.Table:
    count = len(masks)
    height, width = masks.size
    columns = {
        "mask_id": [mask_id(run.run_id, image_id, index) for index in range(count)],
        "image_id": [image_id] * count,
        "run_id": [run.run_id] * count,
        "round": [run.round] * count,
        "stage": [run.stage] * count,
        "height": [height] * count,
        "width": [width] * count,
        "rle": list(masks.rle),
        "area": masks.areas,
        "predicted_iou": masks.predicted_iou,
        "stability_score": masks.stability_score,
        "point_x": masks.points[:, 0],
        "point_y": masks.points[:, 1],
        "model_id": [run.model_id] * count,
        "annotator": [None] * count,
        "created_at": [as_stored(run.created_at)] * count,
    }
    for index, side in enumerate(_BOX):
        columns[f"bbox_{side}"] = masks.boxes[:, index].astype(np.int32)
        columns[f"crop_{side}"] = masks.crop_boxes[:, index].astype(np.int32)
    return pa.table([pa.array(columns[field.name], field.type) for field in MASKS], schema=MASKS)


def _outcome(result: ImageResult) -> dict[str, object]:
    row: dict[str, object] = {
        "image_id": result.image_id,
        "status": result.status,
        "error_class": result.error_class,
        "error_message": result.error_message,
        "n_masks": result.n_masks,
        "candidates": result.generation.candidates if result.generation else 0,
        "started_at": as_stored(result.started_at),
        "finished_at": as_stored(result.finished_at),
    }
    return row | _rejected(result.generation) | _seconds(result)


def _rejected(generation: Generation | None) -> dict[str, object]:
    counts = generation.rejections.counts() if generation else {}
    by_name = {reason.value: count for reason, count in counts.items()}
    return {f"rejected_{reason}": by_name.get(reason, 0) for reason in REJECTION_REASONS}


def _seconds(result: ImageResult) -> dict[str, float]:
    known = {"read": result.read_seconds, "decode_image": result.decode_seconds}
    steps = result.generation.seconds if result.generation else None
    return {f"seconds_{step}": known.get(step, getattr(steps, step, 0.0)) for step in STEPS}
