"""Data sets of any number of small shards, with pictures that lie there: for what a command does for each shard.

Pictures are of 32 x 32 px, 16 to a shard, with eight masks each. Shards are in the order of image_id, as those of a
plan are; parts of the images table in the order of places, as `ingest` writes them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from sam_core.masks.rle import encode
from schemas import layout
from schemas.ids import content_hash, image_id_of_hash
from schemas.parquet import to_parquet_bytes
from schemas.records import DatasetRecord, RunRecord, to_json
from schemas.tables import IMAGES, MASKS, Stage
from tests.benchmarks.many_masks import measured, outcomes, table_of
from tests.workflows import fakes
from workflows.plans import settle_plan
from workflows.storage import LocalStore

SIDE = 32
MASKS_PER_IMAGE = 8
IMAGES_PER_SHARD = 16
IMAGES_PER_PART = 2048
_OUTLINES = 400
_BEGUN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
_NOW = _BEGUN.replace(tzinfo=None)


def make(folder: Path, shards: int) -> Path:
    """Write a data set of one run and so many shards, and its pictures beside it, in `pictures`; where it lies."""
    store, run = LocalStore(folder / "data"), run_record()
    store.put(layout.DATASET_KEY, to_json(DatasetRecord(name="many shards", created_at=_BEGUN)).encode())
    store.put(layout.run_key(run.run_id), to_json(run).encode())
    images = pa.concat_tables(_noted(store, folder / "pictures", shards * IMAGES_PER_SHARD)).sort_by("image_id")
    settle_plan(store, run.run_id, images.select(["image_id", "uri"]), shard_size=IMAGES_PER_SHARD)
    drawn = outlines()
    for number in range(shards):
        ids = images["image_id"].slice(number * IMAGES_PER_SHARD, IMAGES_PER_SHARD).combine_chunks()
        _put(folder / "data" / layout.masks_key(run.run_id, number), _masks(ids, number, run, drawn))
        _put(
            folder / "data" / layout.outcomes_key(run.run_id, number),
            outcomes(number, ids, run.run_id, MASKS_PER_IMAGE),
        )
    return folder / "data"


def run_record() -> RunRecord:
    """The run that all of these masks belong to."""
    return replace(
        fakes.run_record("many-shards"), name="many", created_at=_BEGUN, model_name="made_up", model_id="made_up-0"
    )


def outlines() -> pa.Table:
    """Rectangles: rle, area and box."""
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(_OUTLINES):
        x, y, w, h = rng.integers(0, SIDE - 8, 2).tolist() + rng.integers(2, 8, 2).tolist()
        mask = np.zeros((SIDE, SIDE), bool)
        mask[y : y + h, x : x + w] = True
        counts.append(encode(mask))
    return measured(counts, SIDE)


def picture(number: int) -> bytes:
    """A PNG whose first pixels hold its number."""
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    pixels[0, :3] = np.frombuffer(number.to_bytes(9, "big"), np.uint8).reshape(3, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _noted(store: LocalStore, pictures: Path, count: int) -> Iterator[pa.Table]:
    """Writes pictures and the parts of the images table; image_id and uri of each."""
    for start in range(0, count, IMAGES_PER_PART):
        (place := pictures / f"{start:08d}").mkdir(parents=True, exist_ok=True)
        numbers = range(start, min(count, start + IMAGES_PER_PART))
        data = [picture(number) for number in numbers]
        uris = [str(place / f"{number:08d}.png") for number in numbers]
        for uri, each in zip(uris, data, strict=True):
            Path(uri).write_bytes(each)
        hashes = [content_hash(each) for each in data]
        columns = {"image_id": pa.array(map(image_id_of_hash, hashes)), "uri": pa.array(uris)}
        columns |= {"content_sha256": pa.array(hashes), "bytes": pa.array(map(len, data), pa.int64())}
        same = {"format": "png", "height": SIDE, "width": SIDE, "exif_orientation": 1, "ingested_at": _NOW}
        store.put(layout.images_key(f"{start:08d}"), to_parquet_bytes(table_of(IMAGES, len(data), columns, same)))
        yield pa.table({"image_id": columns["image_id"], "uri": columns["uri"]})


def _masks(ids: pa.Array, number: int, run: RunRecord, drawn: pa.Table) -> pa.Table:
    rng, rows = np.random.default_rng(number), len(ids) * MASKS_PER_IMAGE
    owner = ids.take(pa.array(np.repeat(np.arange(len(ids)), MASKS_PER_IMAGE)))
    index = pa.array([f"{k:05d}" for k in range(MASKS_PER_IMAGE)] * len(ids))
    picked = drawn.take(pa.array(rng.integers(0, len(drawn), rows))).combine_chunks()
    columns = {name: picked[name] for name in picked.column_names}
    columns |= {"mask_id": pc.binary_join_element_wise(run.run_id, owner, index, "."), "image_id": owner}
    columns |= {name: rng.uniform(0.9, 1, rows).astype(np.float32) for name in ("predicted_iou", "stability_score")}
    same = {"run_id": run.run_id, "stage": Stage.AUTOMATIC, "model_id": run.model_id, "height": SIDE, "width": SIDE}
    same |= {"point_x": 8.5, "point_y": 8.5, "crop_x": 0, "crop_y": 0, "crop_w": SIDE, "crop_h": SIDE}
    return table_of(MASKS, rows, columns, same | {"created_at": _NOW})


def _put(path: Path, table: pa.Table) -> None:
    """As a store does, but for waiting for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_parquet_bytes(table))
