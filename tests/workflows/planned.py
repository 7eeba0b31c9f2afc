"""A run planned over a few files without a command, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from schemas.catalog import connect, query
from schemas.ids import image_id
from workflows.image_worker import PlannedImage
from workflows.plans import ShardTask, pending_shards, settle_plan
from workflows.runs import open_dataset
from workflows.storage import Store


def planned(path: Path) -> PlannedImage:
    return PlannedImage(image_id(path.read_bytes()), str(path))


def plan(store: Store, images: Sequence[PlannedImage], *, shard_size: int) -> list[ShardTask]:
    open_dataset(store)
    table = pa.table({"image_id": [image.image_id for image in images], "uri": [image.uri for image in images]})
    parts = settle_plan(store, "run", table, shard_size=shard_size)
    return pending_shards(store, "run", parts)


def outcomes(store: Store) -> dict[str, tuple[str, str | None, int]]:
    """By image id: status, error class, masks."""
    rows = query(connect(store.root), "SELECT image_id, status, error_class, n_masks FROM outcomes").to_pylist()
    return {row["image_id"]: (row["status"], row["error_class"], row["n_masks"]) for row in rows}
