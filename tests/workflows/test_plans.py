from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from schemas.layout import outcomes_key, plan_key
from workflows import plans
from workflows.plans import PlanPart, default_shard_size, finished_shards, pending_shards, read_plan, settle_plan
from workflows.storage import LocalStore


def images(numbers: Iterable[int]) -> pa.Table:
    names = [f"{number:06d}" for number in numbers]
    ids = [hashlib.sha256(name.encode()).hexdigest()[:32] for name in names]
    return pa.table({"image_id": ids, "uri": [f"/photos/{name}.png" for name in names]})


def listed(parts: Iterable[PlanPart]) -> list[str]:
    return [image for part in parts for image in part.table["image_id"].to_pylist()]


def settled(store: LocalStore, table: pa.Table, *, shard_size: int | None = None) -> list[PlanPart]:
    """The parts that the store holds after settling the plan of run `r`."""
    settle_plan(store, "r", table, shard_size=shard_size)
    return list(read_plan(store, "r"))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_every_image_is_in_exactly_one_shard(store: LocalStore) -> None:
    parts = settled(store, images(range(10)), shard_size=4)
    assert sorted(listed(parts)) == sorted(images(range(10))["image_id"].to_pylist())
    assert parts[0].table["shard"].to_pylist() == [0] * 4 + [1] * 4 + [2] * 2
    tasks = settle_plan(store, "r", images(range(10)))
    assert [(task.shard, task.start, task.stop) for task in tasks] == [(0, 0, 4), (1, 4, 8), (2, 8, 10)]


def test_shards_whose_images_lie_elsewhere_now_are_marked(store: LocalStore) -> None:
    table = images(range(10))
    assert not any(task.moved for task in settle_plan(store, "r", table, shard_size=4))
    assert not any(task.moved for task in settle_plan(store, "r", table))
    (part,) = read_plan(store, "r")
    second = pc.equal(table["image_id"], part.table["image_id"][5])
    table = table.set_column(1, "uri", pc.if_else(second, "/moved.png", table["uri"]))
    assert [task.moved for task in settle_plan(store, "r", table)] == [False, True, False]


def test_the_same_source_in_any_order_gives_the_same_bytes(store: LocalStore, tmp_path: Path) -> None:
    other = LocalStore(tmp_path / "other")
    settle_plan(store, "r", images(range(20)), shard_size=3)
    settle_plan(other, "r", images(reversed(range(20))), shard_size=3)
    assert store.get(plan_key("r", 1)) == other.get(plan_key("r", 1))


def test_an_image_at_two_places_is_planned_once(store: LocalStore) -> None:
    table = pa.concat_tables([images([1, 2]), pa.table({"image_id": images([1])["image_id"], "uri": ["/a.png"]})])
    (part,) = settled(store, table)
    assert len(part.table) == 2
    assert "/a.png" in part.table["uri"].to_pylist()


def test_planning_again_changes_nothing_and_more_images_append_a_part(store: LocalStore) -> None:
    settle_plan(store, "r", images(range(5)), shard_size=2)
    frozen = store.get(plan_key("r", 1))
    assert len(settled(store, images(range(5)), shard_size=1)) == 1
    parts = settled(store, images(range(8)), shard_size=2)
    assert store.get(plan_key("r", 1)) == frozen
    assert [part.number for part in parts] == [1, 2]
    assert sorted(listed(parts[1:])) == sorted(images(range(5, 8))["image_id"].to_pylist())
    assert parts[1].table["shard"].to_pylist() == [3, 3, 4]


def test_two_drivers_settle_on_one_plan(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other driver, which sees other images, is faster by a moment at every part."""
    put = store.put_if_absent
    rival = LocalStore(store.root)

    def late(key: str, data: bytes) -> bytes:
        monkeypatch.setattr(store, "put_if_absent", put)
        settle_plan(rival, "r", images(range(3, 9)), shard_size=2)
        return put(key, data)

    monkeypatch.setattr(store, "put_if_absent", late)
    shards = settle_plan(store, "r", images(range(6)), shard_size=2)
    assert sorted(listed(read_plan(store, "r"))) == sorted(images(range(9))["image_id"].to_pylist())
    assert sum(task.stop - task.start for task in shards) == 9
    assert settle_plan(rival, "r", images(range(9))) == shards


def test_shards_without_an_image_of_the_source_are_left_to_others(store: LocalStore) -> None:
    """Two people with pictures of their own in one run: the files of the other may be on another machine."""
    assert [task.shard for task in settle_plan(store, "r", images(range(4)), shard_size=2)] == [0, 1]
    assert [task.shard for task in settle_plan(store, "r", images(range(4, 8)), shard_size=2)] == [2, 3]
    assert [task.shard for task in settle_plan(store, "r", images(range(4)))] == [0, 1]
    assert not settle_plan(store, "r", images([]))


def test_two_drivers_settle_on_one_plan_of_several_parts(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left to be planned is another after each part that the other driver was first with."""
    monkeypatch.setattr(plans, "IMAGES_PER_PART", 3)
    put, rival = store.put_if_absent, LocalStore(store.root)

    def late(key: str, data: bytes) -> bytes:
        monkeypatch.setattr(store, "put_if_absent", put)
        settle_plan(rival, "r", images(range(9)[::-1][:5]), shard_size=2)
        return put(key, data)

    monkeypatch.setattr(store, "put_if_absent", late)
    shards = settle_plan(store, "r", images(range(9)), shard_size=2)
    assert sorted(listed(read_plan(store, "r"))) == sorted(images(range(9))["image_id"].to_pylist())
    assert sum(task.images for task in shards) == 9


def test_large_sources_become_several_parts(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "IMAGES_PER_PART", 10)
    tasks = settle_plan(store, "r", images(range(25)), shard_size=4)
    assert [len(part.table) for part in read_plan(store, "r")] == [10, 10, 5]
    assert [task.shard for task in tasks] == list(range(8))
    assert sum(task.stop - task.start for task in tasks) == 25
    assert {task.part for task in tasks} == {1, 2, 3}


def test_shards_with_outcomes_are_done(store: LocalStore) -> None:
    shards = settle_plan(store, "r", images(range(10)), shard_size=2)
    store.put(outcomes_key("r", 3), b"")
    store.put(outcomes_key("other", 1), b"")
    (Path(store.root) / "outcomes/run=r/.shard-00000001.parquet.tmp").write_bytes(b"")
    assert finished_shards(store, "r") == {3}
    assert [task.shard for task in pending_shards(store, "r", shards)] == [0, 1, 2, 4]


def test_a_gap_in_the_plan_is_reported(store: LocalStore) -> None:
    settle_plan(store, "r", images(range(2)))
    store.put(plan_key("r", 3), store.get(plan_key("r", 1)))
    with pytest.raises(ValueError, match=r"the plan of run r has a gap; its parts are \[1, 3\]"):
        read_plan(store, "r")


def test_shards_grow_with_the_source() -> None:
    assert [default_shard_size(count) for count in (1, 9, 128, 6400, 32_768, 2_000_000)] == [1, 1, 2, 100, 512, 512]
