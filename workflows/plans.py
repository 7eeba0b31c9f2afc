"""The frozen plan of a run: numbered parts, appended only, each an ordered list of shards of images.

Whoever puts a part first wins, and everyone works from what the store then holds. What is done is what has outcomes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection

from schemas.layout import OUTCOMES_PREFIX, parse_plan_key, parse_shard_key, plan_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import PLAN
from workflows.manifests import open_parquet
from workflows.scratch import open_scratch
from workflows.storage import Store
from workflows.stored_tables import parse_table

IMAGES_PER_PART = 65_536
SHARDS_WANTED = 64
LARGEST_SHARD = 512
_UNLISTED = "SELECT image_id, uri FROM wanted ANTI JOIN planned USING (image_id) ORDER BY image_id"
_WANTED = "SELECT shard, bool_or(place <> hash(uri)) FROM planned JOIN wanted USING (image_id) GROUP BY shard"


@dataclass(frozen=True, slots=True)
class PlanPart:
    """One part as the store holds it: `table` has the rows of schemas.tables.PLAN, `sha256` is of the file."""

    number: int
    sha256: str
    table: pa.Table


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to work on: rows start..stop - 1 of a plan part, whose bytes must still have this hash.

    moved: the source has any of its images at another place than the plan.
    """

    shard: int
    part: int
    part_sha256: str
    start: int
    stop: int
    moved: bool = False

    @property
    def images(self) -> int:
        """How many images it has."""
        return self.stop - self.start


def settle_plan(
    store: Store, run_id: str, images: pa.Table | pa.RecordBatchReader, *, shard_size: int | None = None
) -> list[ShardTask]:
    """The shards of the run's plan that have any of these images, after appending parts for those that no part lists.

    `images` has the columns image_id and uri; an image that appears several times is planned once. Two drivers that
    do this at once end up with the same parts. Shards of other images are left to the commands that planned them: their
    files may be on another machine. Images pass through a database on disk, so memory holds one part.
    """
    with open_scratch() as tables:
        tables.register("images", images)
        tables.execute("CREATE TABLE wanted AS SELECT image_id, min(uri) AS uri FROM images GROUP BY image_id")
        tables.execute("CREATE TABLE planned (image_id TEXT, shard BIGINT, place UBIGINT)")
        return _settle(store, run_id, tables, shard_size)


def _settle(store: Store, run_id: str, tables: DuckDBPyConnection, shard_size: int | None) -> list[ShardTask]:
    shards: list[ShardTask] = []
    parts = 0
    for part in read_plan(store, run_id):
        parts, shards = part.number, shards + _note(tables, part)
    while count := _count_unlisted(tables):
        size = shard_size or default_shard_size(count)
        for rows in tables.cursor().sql(_UNLISTED).to_arrow_reader(IMAGES_PER_PART):
            parts += 1
            proposed = _part_bytes(rows, len(shards), size)
            settled = store.put_if_absent(plan_key(run_id, parts), proposed)
            shards += _note(tables, _parse(store, run_id, parts, settled))
            if settled != proposed:
                break  # another driver was first: look again at what is still missing
    moved = dict(tables.execute(_WANTED).fetchall())
    return [replace(task, moved=moved[task.shard]) for task in shards if task.shard in moved]


def read_plan(store: Store, run_id: str) -> Iterator[PlanPart]:
    """The parts of a run's plan, in order; none for a run that is new. Raises ValueError when one is missing."""
    keys = (entry.key for entry in store.list(plan_key(run_id, 1).rpartition("/")[0]))
    numbers = sorted(found.part for key in keys if (found := parse_plan_key(key)))
    if numbers != list(range(1, len(numbers) + 1)):
        raise ValueError(f"{store.root}: the plan of run {run_id} has a gap; its parts are {numbers}")
    return (read_part(store, run_id, number) for number in numbers)


def planned_shards(store: Store, run_id: str) -> dict[int, int]:
    """How many images each shard of the plan has. Reads one narrow column of each part."""
    sizes: dict[int, int] = {}
    for entry in store.list(plan_key(run_id, 1).rpartition("/")[0]):
        if parse_plan_key(entry.key):
            shards = open_parquet(f"{store.root}/{entry.key}").read(columns=["shard"])["shard"]
            sizes |= zip(*(part.to_pylist() for part in shards.value_counts().flatten()), strict=True)
    return sizes


def read_part(store: Store, run_id: str, number: int) -> PlanPart:
    """One part of a run's plan."""
    return _parse(store, run_id, number, store.get(plan_key(run_id, number)))


def pending_shards(store: Store, run_id: str, shards: Sequence[ShardTask]) -> list[ShardTask]:
    """Those shards of the plan that have no outcomes yet, in order. Lists outcomes without reading them."""
    done = finished_shards(store, run_id)
    return [task for task in shards if task.shard not in done]


def finished_shards(store: Store, run_id: str) -> set[int]:
    """Numbers of the shards whose outcomes are written."""
    keys = (entry.key for entry in store.list(f"{OUTCOMES_PREFIX}run={run_id}"))
    return {found.shard for key in keys if (found := parse_shard_key(key))}


def default_shard_size(images: int) -> int:
    """Images per shard: enough shards to share the work and lose little to a kill, until shards are large."""
    return max(1, min(LARGEST_SHARD, images // SHARDS_WANTED))


def _parse(store: Store, run_id: str, number: int, data: bytes) -> PlanPart:
    table = parse_table(data, where=f"{store.root}/{plan_key(run_id, number)}")
    return PlanPart(number, hashlib.sha256(data).hexdigest(), table)


def _part_bytes(rows: pa.RecordBatch, first_shard: int, shard_size: int) -> bytes:
    shards = pa.array(first_shard + np.arange(len(rows)) // shard_size, pa.int64())
    return to_parquet_bytes(pa.table([shards, rows["image_id"], rows["uri"]], schema=PLAN))


def _count_unlisted(tables: DuckDBPyConnection) -> int:
    ((count,),) = tables.execute(f"SELECT count(*) FROM ({_UNLISTED})").fetchall()
    return int(count)


def _note(tables: DuckDBPyConnection, part: PlanPart) -> list[ShardTask]:
    """Remember which images a part lists, in which shard; its shards: runs of equal numbers in its ordered rows."""
    tables.register("part", part.table)
    tables.execute("INSERT INTO planned SELECT image_id, shard, hash(uri) FROM part")
    tables.unregister("part")
    numbers, starts = np.unique(part.table["shard"].to_numpy(), return_index=True)
    stops = [*starts[1:].tolist(), len(part.table)]
    return [
        ShardTask(shard, part.number, part.sha256, start, stop)
        for shard, start, stop in zip(numbers.tolist(), starts.tolist(), stops, strict=True)
    ]
