"""The share of an image that masks cover, on masks that overlap and repeat one another."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sam_core.masks.rle import encode
from schemas.layout import annotations_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import ANNOTATIONS, IMAGES
from workflows.rounds import covered
from workflows.rounds.candidates import _known
from workflows.runs import open_dataset
from workflows.sql import connect
from workflows.storage import open_store

NOON = datetime(2026, 1, 1, 12)


def image(image_id: str) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(IMAGES.names)
    return row | {"image_id": image_id, "uri": f"{image_id}.png", "height": 4, "width": 5, "ingested_at": NOON}


def annotation(mask_id: str, image_id: str, rows: slice) -> dict[str, object]:
    """Whole rows of an image of 4 x 5 px."""
    mask = np.zeros((4, 5), bool)
    mask[rows] = True
    row: dict[str, object] = dict.fromkeys(ANNOTATIONS.names)
    row |= {"mask_id": mask_id, "revision": 1, "deleted": False, "image_id": image_id, "session": "s"}
    row |= {"annotator": "Ada", "stage": "assisted_manual", "round": 1, "model_id": "m", "height": 4, "width": 5}
    row |= {"rle": encode(mask), "bbox_x": 0, "bbox_y": 0, "bbox_w": 5, "bbox_h": 4, "area": int(mask.sum())}
    return row | {"clicks": 1, "brushed": 0, "seconds": 1.0, "created_at": NOON}


@pytest.mark.parametrize("at_once", [1, 200])
def test_pixels_in_several_masks_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(covered, "IMAGES_AT_ONCE", at_once)
    store = open_store(tmp_path)
    open_dataset(store)
    rows = [
        annotation("whole", "one", slice(0, 2)),
        annotation("part", "one", slice(0, 1)),
        annotation("again", "one", slice(0, 2)),
        annotation("single", "two", slice(1, 4)),
    ]
    images = [image(name) for name in ("one", "two", "none")]
    store.put("images/part-1.parquet", to_parquet_bytes(pa.Table.from_pylist(images, schema=IMAGES)))
    store.put(annotations_key("s", 1), to_parquet_bytes(pa.Table.from_pylist(rows, schema=ANNOTATIONS)))
    known = _known(connect(str(tmp_path)), "least_covered", None, ["two", "none", "one"])
    assert known.covered.tolist() == [0.75, 0.0, 0.5]
