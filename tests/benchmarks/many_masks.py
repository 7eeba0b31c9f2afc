"""Data sets of any number of made-up masks, by the writers of the project: for questions about many rows.

Masks are smooth blobs on images of one size, 100 to an image. Fifty thousand outlines are drawn, and each image takes a
hundred of them at random: a page of Parquet holds some thousand outlines, so hardly any of them twice.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from time import monotonic

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from schemas import ids, layout
from schemas.parquet import to_parquet_bytes
from schemas.records import DatasetRecord, RunRecord, to_json
from schemas.rle import parse_runs
from schemas.tables import IMAGES, MASKS, OUTCOMES, REJECTION_REASONS, STEPS, Stage, Status
from tests.workflows import fakes
from workflows.storage import LocalStore

HEIGHT, WIDTH = 768, 1024
MASKS_PER_IMAGE = 100
IMAGES_PER_SHARD = 10_000
OUTLINES = 50_000
_BEGUN = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
_CORNERS = 40


def make(folder: Path, masks: int, *, workers: int, minutes: float) -> int:
    """Write the shards of a data set that are missing, for so many minutes at most; how many are missing still."""
    store = LocalStore(folder)
    shards = -(-masks // (MASKS_PER_IMAGE * IMAGES_PER_SHARD))
    run = run_record()
    store.put(layout.DATASET_KEY, to_json(DatasetRecord(name="many masks", created_at=_BEGUN)).encode())
    store.put(layout.run_key(run.run_id), to_json(run).encode())
    missing = [number for number in range(shards) if not store.exists(layout.outcomes_key(run.run_id, number))]
    end = monotonic() + 60 * minutes
    write = partial(_write_shard, str(folder), shards, end)
    with ProcessPoolExecutor(workers) as pool:
        list(map(write, missing) if workers == 1 else pool.map(write, missing))
    return sum(not store.exists(layout.outcomes_key(run.run_id, number)) for number in range(shards))


def run_record() -> RunRecord:
    """The run that all of these masks belong to."""
    return replace(
        fakes.run_record(ids.run_id("00" * 32, "{}", name="many")),
        name="many",
        created_at=_BEGUN,
        model_name="made_up",
        model_id="made_up-000000000000",
        recipe_name="sa1b",
        kernels="none",
    )


def outlines(count: int, seed: int = 0) -> pa.Table:
    """Smooth blobs: rle, area and box. Relative sizes are log-normal about 0.05, as those of automatic masks are."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    counts = [_blob(rng, angles) for _ in range(count)]
    found = measured(counts, HEIGHT)
    return found.filter(pc.greater(found["area"], 0))


def measured(counts: list[bytes], height: int) -> pa.Table:
    """Compressed counts as the columns rle, area and box; height: of the images, in px."""
    column = pa.array(counts, pa.binary())
    runs = parse_runs(column)
    boxes = runs.boxes(np.full(len(counts), height))
    sides = {f"bbox_{side}": boxes[:, number].astype(np.int32) for number, side in enumerate("xywh")}
    return pa.table({"rle": column, "area": runs.areas, **sides})


def shard_tables(number: int, shards: int, drawn: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Rows of images, masks and outcomes of a shard, sorted as they are written.

    Image ids are evenly spread and rise with the number of the shard, as those of a planned run do.
    """
    rng = np.random.default_rng([7, number])
    images = pa.array(_image_ids(number, shards))
    rows = IMAGES_PER_SHARD * MASKS_PER_IMAGE
    run = run_record()
    of = pa.array(np.repeat(np.arange(IMAGES_PER_SHARD), MASKS_PER_IMAGE))
    index = pa.array([f"{k:05d}" for k in range(MASKS_PER_IMAGE)] * IMAGES_PER_SHARD)
    owner = images.take(of)
    picked = drawn.take(pa.array(rng.integers(0, len(drawn), rows)))
    x, y, w, h = (picked[f"bbox_{side}"].to_numpy() for side in "xywh")
    columns = {name: picked[name] for name in picked.column_names} | {
        "mask_id": pc.binary_join_element_wise(run.run_id, owner, index, "."),
        "image_id": owner,
        "predicted_iou": (0.88 + 0.12 * rng.beta(2, 2, rows)).astype(np.float32),
        "stability_score": (0.95 + 0.05 * rng.beta(2, 3, rows)).astype(np.float32),
        "point_x": (x + w / 2).astype(np.float32),
        "point_y": (y + h / 2).astype(np.float32),
    }
    same = {"run_id": run.run_id, "stage": Stage.AUTOMATIC, "model_id": run.model_id, "height": HEIGHT, "width": WIDTH}
    same |= {"crop_x": 0, "crop_y": 0, "crop_w": WIDTH, "crop_h": HEIGHT, "created_at": _BEGUN.replace(tzinfo=None)}
    return _images(images), table_of(MASKS, rows, columns, same), outcomes(number, images, run.run_id, MASKS_PER_IMAGE)


@cache
def _drawn() -> pa.Table:
    """The outlines of a process, drawn once."""
    return outlines(OUTLINES)


def _write_shard(folder: str, shards: int, end: float, number: int) -> None:
    """Masks, then images, then outcomes, as a worker does; nothing once the time is up."""
    if monotonic() > end:
        return
    images, masks, outcomes = shard_tables(number, shards, _drawn())
    store, run_id = LocalStore(folder), run_record().run_id
    store.put(layout.masks_key(run_id, number), to_parquet_bytes(masks))
    store.put(layout.images_key(f"{number:08d}"), to_parquet_bytes(images))
    store.put(layout.outcomes_key(run_id, number), to_parquet_bytes(outcomes))


def _blob(rng: np.random.Generator, angles: NDArray[np.float64]) -> bytes:
    side = min(0.7, float(np.exp(rng.normal(np.log(0.05), 0.9)))) * np.sqrt(HEIGHT * WIDTH)
    radius = (
        side
        / np.sqrt(np.pi)
        * (1 + sum(rng.normal(0, 0.2 / k) * np.cos(k * angles + rng.uniform(0, 7)) for k in (2, 3, 5)))
    )
    x = rng.uniform(0, WIDTH) + radius * np.cos(angles)
    y = rng.uniform(0, HEIGHT) + radius * np.sin(angles)
    corners = np.stack([np.clip(x, 0, WIDTH), np.clip(y, 0, HEIGHT)], axis=1).ravel().tolist()
    counts: bytes = coco_mask.frPyObjects([corners], HEIGHT, WIDTH)[0]["counts"]
    return counts


def _image_ids(number: int, shards: int) -> list[str]:
    step = 2**64 // (shards * IMAGES_PER_SHARD)
    first = number * IMAGES_PER_SHARD
    tails = hashlib.shake_256(str(number).encode()).digest(8 * IMAGES_PER_SHARD).hex()
    return [f"{(first + k) * step:016x}{tails[16 * k : 16 * k + 16]}" for k in range(IMAGES_PER_SHARD)]


def _images(images: pa.Array) -> pa.Table:
    columns = {
        "image_id": images,
        "uri": pc.binary_join_element_wise("/made-up-photographs", images, "/"),
        "content_sha256": pc.binary_join_element_wise(images, "0" * 32, ""),
    }
    same = {"bytes": 300_000, "format": "jpeg", "height": HEIGHT, "width": WIDTH, "exif_orientation": 1}
    return table_of(IMAGES, len(images), columns, same | {"ingested_at": _BEGUN.replace(tzinfo=None)})


def outcomes(number: int, images: pa.Array, run_id: str, masks: int) -> pa.Table:
    """Rows of a shard in which each image ended well, with so many masks."""
    rejected = {f"rejected_{reason}": 20 for reason in REJECTION_REASONS}
    candidates = masks + sum(rejected.values())
    same = {"run_id": run_id, "shard": number, "status": Status.OK, "n_masks": masks}
    same |= {"candidates": candidates, **rejected, **{f"seconds_{step}": 0.1 for step in STEPS}}
    moment = _BEGUN.replace(tzinfo=None)
    same |= {"host": "nowhere", "worker": "0", "started_at": moment, "finished_at": moment}
    return table_of(OUTCOMES, len(images), {"image_id": images}, same)


def table_of(schema: pa.Schema, rows: int, columns: dict[str, object], same: dict[str, object]) -> pa.Table:
    """A table of columns, of values that are the same in every row, and of nulls."""

    def column(field: pa.Field) -> pa.Array:
        if field.name in columns:
            return columns[field.name]
        if field.name in same:
            return pa.repeat(pa.scalar(same[field.name], field.type), rows)
        return pa.nulls(rows, field.type)

    return pa.table([column(field) for field in schema], names=schema.names).cast(schema)
