"""Several commands at one run: what one has done, the others leave out, and they part where they meet."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.layout import in_flight_key, outcomes_key
from tests.workflows.conftest import QUICK, Engine, save_photos
from workflows.convert import ImageResult
from workflows.image_worker import PlannedImage
from workflows.plans import ShardTask, pending_shards, read_plan, settle_plan
from workflows.shard_worker import ShardWorker
from workflows.sharing import Remaining
from workflows.sql import connect
from workflows.storage import LocalStore, Store, open_store

SHARDS = 60
TASKS = [ShardTask(shard, 1, "", 2 * shard, 2 * shard + 2) for shard in range(SHARDS)]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def remaining(store: LocalStore, seed: int = 0) -> Remaining:
    return Remaining(store, "run", TASKS, dice=random.Random(seed))


def test_one_command_goes_through_the_plan_in_order(store: LocalStore) -> None:
    assert list(remaining(store)) == TASKS


def test_a_command_that_finds_others_at_work_begins_elsewhere(store: LocalStore) -> None:
    store.put(in_flight_key("run", 0), b"{}")
    taken = list(remaining(store))
    first = taken.index(TASKS[0])
    assert first > 0
    assert taken[first:] + taken[:first] == TASKS


def test_what_others_did_is_left_out_once_it_is_known(store: LocalStore) -> None:
    mine = remaining(store)
    begun = next(iter(mine))
    for shard in range(10):
        store.put(outcomes_key("run", shard), b"")
    assert mine.part_ways() == TASKS[1:10]
    left = list(mine)
    assert sorted(task.shard for task in [begun, *left]) == [0, *range(10, SHARDS)]
    assert left[0] != TASKS[10]


@pytest.mark.parametrize("commands", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_commands_that_begin_in_the_same_moment_share_the_work(store: LocalStore, commands: int, seed: int) -> None:
    """In step with each other, which is the worst that can be: without parting, each would do all of it."""
    working = [remaining(store, seed=100 * seed + number) for number in range(commands)]
    done: set[int] = set()
    attempts = 0
    while taken := [(mine, task) for mine in working if (task := next(iter(mine), None))]:
        known = set(done)  # before any of them has written its shard
        for mine, task in taken:
            attempts += task.shard not in known
            if task.shard in done:
                mine.part_ways()
            done.add(task.shard)
            store.put(outcomes_key("run", task.shard), b"")
    assert done == set(range(SHARDS))
    assert attempts <= SHARDS + 5 * commands


def test_a_command_works_only_on_what_another_left(
    engine_alone: Engine, tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_photos(tmp_path / "photos", 8)
    data, attempt, worked_on = tmp_path / "data", ShardWorker._attempt, list[PlannedImage]()

    def with_company(self: ShardWorker, images: list[PlannedImage], marker: str) -> list[ImageResult]:
        first = not worked_on
        worked_on.extend(images)
        if first:
            for task in tasks_of(open_store(str(data)), self._job.run.run_id)[:6]:
                ShardWorker(self._job).work(task)
        return attempt(self, images, marker)

    monkeypatch.setattr(ShardWorker, "_attempt", with_company)
    said = engine_alone("generate", tmp_path / "photos", data, "--model", tiny_checkpoint, *QUICK, "--shard-size", "1")
    assert said.status == 0, said.err
    assert "masks: 8 of 8 images" in said.err
    assert len(worked_on) == 1 + 6 + 2  # its first, what another command did meanwhile, what was left
    known = connect(str(data))
    assert known.execute("SELECT count(*), count(DISTINCT image_id) FROM outcomes").fetchall() == [(8, 8)]
    assert not known.execute("SELECT * FROM problems").fetchall()


def tasks_of(store: Store, run_id: str) -> list[ShardTask]:
    planned = pa.concat_tables(part.table for part in read_plan(store, run_id))
    return pending_shards(store, run_id, settle_plan(store, run_id, planned))
