"""The frozen plan of a run: numbered parts, appended only, each an ordered list of shards of images.

Whoever puts a part first wins, and everyone works from what the store then holds. What is done is what has outcomes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from schemas.layout import OUTCOMES_PREFIX, parse_plan_key, parse_shard_key, plan_key
from schemas.parquet import from_parquet_bytes, to_parquet_bytes
from schemas.tables import PLAN
from workflows.storage import Store

IMAGES_PER_PART = 65_536
SHARDS_WANTED = 64
LARGEST_SHARD = 512


@dataclass(frozen=True, slots=True)
class PlanPart:
    """One part as the store holds it: `table` has the rows of schemas.tables.PLAN, `sha256` is of the file."""

    number: int
    sha256: str
    table: pa.Table


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to work on: rows start..stop - 1 of a plan part, whose bytes must still have this hash."""

    shard: int
    part: int
    part_sha256: str
    start: int
    stop: int


def settle_plan(store: Store, run_id: str, images: pa.Table, *, shard_size: int | None = None) -> list[PlanPart]:
    """All parts of the run's plan, after appending parts for the images that none of them lists.

    `images` has the columns image_id and uri; an image that appears several times is planned once. Two drivers that
    do this at once end up with the same parts.
    """
    images = images.group_by("image_id").aggregate([("uri", "min")]).rename_columns(["image_id", "uri"])
    parts = read_plan(store, run_id)
    while len(unlisted := _unlisted(images, parts)):
        for rows in _batches(unlisted.sort_by("image_id"), IMAGES_PER_PART):
            number = len(parts) + 1
            first_shard = _last_shard(parts) + 1
            proposed = _part_bytes(rows, first_shard, shard_size or default_shard_size(len(unlisted)))
            settled = store.put_if_absent(plan_key(run_id, number), proposed)
            parts.append(_parse(number, settled))
            if settled != proposed:
                break  # another driver was first: look again at what is still missing
    return parts


def read_plan(store: Store, run_id: str) -> list[PlanPart]:
    """The parts of a run's plan, in order; none for a run that is new."""
    keys = (entry.key for entry in store.list(plan_key(run_id, 1).rpartition("/")[0]))
    numbers = sorted(found.part for key in keys if (found := parse_plan_key(key)))
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"{store.root}: the plan of run {run_id} has a gap; its parts are {numbers}")
    return [read_part(store, run_id, number) for number in numbers]


def read_part(store: Store, run_id: str, number: int) -> PlanPart:
    """One part of a run's plan."""
    return _parse(number, store.get(plan_key(run_id, number)))


def pending_shards(store: Store, run_id: str, parts: Sequence[PlanPart]) -> list[ShardTask]:
    """The shards of the plan that have no outcomes yet, in order. Lists outcomes without reading them."""
    done = finished_shards(store, run_id)
    return [task for part in parts for task in _shards(part) if task.shard not in done]


def finished_shards(store: Store, run_id: str) -> set[int]:
    """Numbers of the shards whose outcomes are written."""
    keys = (entry.key for entry in store.list(f"{OUTCOMES_PREFIX}run={run_id}"))
    return {found.shard for key in keys if (found := parse_shard_key(key))}


def default_shard_size(images: int) -> int:
    """Images per shard: enough shards to share the work and lose little to a kill, until shards are large."""
    return max(1, min(LARGEST_SHARD, images // SHARDS_WANTED))


def _parse(number: int, data: bytes) -> PlanPart:
    return PlanPart(number, hashlib.sha256(data).hexdigest(), from_parquet_bytes(data))


def _part_bytes(rows: pa.Table, first_shard: int, shard_size: int) -> bytes:
    shards = pa.array((first_shard + row // shard_size for row in range(len(rows))), pa.int64())
    return to_parquet_bytes(pa.table([shards, rows["image_id"], rows["uri"]], schema=PLAN))


def _unlisted(images: pa.Table, parts: Sequence[PlanPart]) -> pa.Table:
    listed = pa.chunked_array([chunk for part in parts for chunk in part.table["image_id"].chunks], pa.string())
    return images.filter(pc.invert(pc.is_in(images["image_id"], value_set=listed)))


def _last_shard(parts: Sequence[PlanPart]) -> int:
    return max((pc.max(part.table["shard"]).as_py() for part in parts), default=-1)


def _batches(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    for start in range(0, len(table), rows):
        yield table.slice(start, rows)


def _shards(part: PlanPart) -> Iterator[ShardTask]:
    """The shards of a part: runs of equal numbers in its ordered rows."""
    counts = part.table["shard"].combine_chunks().value_counts()
    start = 0
    for shard, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
        yield ShardTask(shard, part.number, part.sha256, start, start + count)
        start += count
