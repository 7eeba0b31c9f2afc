"""What the audit stage of the annotation app leaves behind, made without people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sam_core.masks import rle
from schemas.layout import annotations_key, events_key
from schemas.parquet import to_parquet_bytes
from schemas.rle import parse_runs
from schemas.tables import ANNOTATIONS, EVENTS, Stage
from schemas.validate import check_annotations
from workflows.storage import Store

Bitmap = NDArray[np.bool_]
DAY = datetime(2026, 2, 1, 8, 0, tzinfo=UTC).replace(tzinfo=None)


def correct(
    store: Store,
    masks: pa.Table,
    corrected: Mapping[str, Bitmap | None],
    *,
    added: Sequence[tuple[str, Bitmap]] = (),
    annotator: str = "ann",
    session: str = "audit-1",
    stage: Stage = Stage.AUDIT,
) -> None:
    """Save one session in which the images of some masks were finished.

    Args:
        masks: rows of `masks`, all those of their images.
        corrected: the new bitmap of masks by mask_id, None where the mask was deleted; the others stay as they were.
        added: image_id and bitmap of masks that the run had missed.
    """
    rows = [
        _row(session, number, row["image_id"], _rle_of(corrected.get(row["mask_id"], True), row["rle"]), row["height"])
        | {"source_mask_id": row["mask_id"], "deleted": corrected.get(row["mask_id"], True) is None}
        | {"seconds": 4.0 + number % 5, "clicks": 2, "model_id": row["model_id"]}
        | {name: row[name] for name in ("width", "predicted_iou", "stability_score", "point_x", "point_y")}
        for number, row in enumerate(masks.to_pylist())
    ]
    rows += [
        _row(session, len(rows) + number, image, rle.encode(bitmap), bitmap.shape[0])
        | {"width": bitmap.shape[1], "seconds": 9.0}
        for number, (image, bitmap) in enumerate(added)
    ]
    common = {"session": session, "annotator": annotator, "stage": stage, "round": 1}
    table = pa.Table.from_pylist([row | common for row in rows], schema=ANNOTATIONS)
    check_annotations(table)
    store.put(annotations_key(session, 1), to_parquet_bytes(table))
    images = list(dict.fromkeys(masks["image_id"].to_pylist()))
    events = [
        {"sequence": 2 * number + k + 1, "image_id": image, "action": action, "active": 1.0}
        | {"happened_at": DAY + timedelta(minutes=number, seconds=k)}
        for number, image in enumerate(images)
        for k, action in enumerate(("open", "finish"))
    ]
    store.put(
        events_key(session, 1),
        to_parquet_bytes(pa.Table.from_pylist([event | common for event in events], schema=EVENTS)),
    )


def _rle_of(change: Bitmap | bool | None, before: bytes) -> bytes:
    return rle.encode(change) if isinstance(change, np.ndarray) else before


def _row(session: str, number: int, image_id: str, counts: bytes, height: int) -> dict[str, object]:
    runs = parse_runs(pa.array([counts]))
    x, y, w, h = runs.boxes(np.array([height])).tolist()[0]
    return {
        "mask_id": f"{session}-{number:05d}-{image_id[:8]}",
        "revision": 1,
        "deleted": False,
        "image_id": image_id,
        "height": height,
        "rle": counts,
        "bbox_x": x,
        "bbox_y": y,
        "bbox_w": w,
        "bbox_h": h,
        "area": int(runs.areas[0]),
        "clicks": 0,
        "brushed": 30,
        "created_at": DAY + timedelta(seconds=number),
    }
