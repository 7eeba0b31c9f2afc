"""The share of an image that masks cover, on masks that overlap and repeat one another."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sam_core.masks.rle import encode
from schemas.layout import ANNOTATIONS_PREFIX, annotations_key
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
        annotation("gone", "two", slice(0, 4)),
        annotation("gone", "two", slice(0, 4)) | {"revision": 2, "deleted": True},
        annotation("judged", "none", slice(0, 4)) | {"stage": "audit"},
    ]
    images = [image(name) for name in ("one", "two", "none")]
    store.put("images/part-1.parquet", to_parquet_bytes(pa.Table.from_pylist(images, schema=IMAGES)))
    store.put(annotations_key("s", 1), to_parquet_bytes(pa.Table.from_pylist(rows, schema=ANNOTATIONS)))
    known = _known(connect(str(tmp_path)), "least_covered", None, ["two", "none", "one"])
    assert known.covered.tolist() == [0.75, 0.0, 0.5]


def test_masks_of_other_images_stay_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened_files: list[str]
) -> None:
    """Or the time would grow with the square of what is annotated: each few images would look through all of it."""
    monkeypatch.setattr(covered, "IMAGES_AT_ONCE", 1)
    store = open_store(tmp_path)
    open_dataset(store)
    names = [f"{number:032x}" for number in range(12)]
    images = pa.Table.from_pylist([image(name) for name in names], schema=IMAGES)
    store.put("images/part-1.parquet", to_parquet_bytes(images))
    for part, name in enumerate(names, start=1):
        rows = [annotation(f"mask-{name}", name, slice(0, 1))]
        store.put(annotations_key("s", part), to_parquet_bytes(pa.Table.from_pylist(rows, schema=ANNOTATIONS)))
    shares = covered.covered_shares(connect(str(tmp_path)), names[2:])
    assert shares.tolist() == [0.25] * 10
    listed = [path for path in opened_files if "empty" not in path]
    assert len({path for path in listed if ANNOTATIONS_PREFIX in path}) == 10
    assert len(listed) <= 3 * 10  # DuckDB opens a file for each of its threads
