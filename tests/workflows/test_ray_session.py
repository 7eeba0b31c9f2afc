"""Workers that die under Ray, and how many there are."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from schemas.catalog import connect, query
from tests.workflows import fakes
from tests.workflows.test_shard_worker import plan, planned
from workflows import actor_pool
from workflows.failures import WorkerError
from workflows.ray_session import Pool, choose_pool, run_shards, start_ray
from workflows.storage import LocalStore

ONE = Pool(workers=1, threads=1, gpus=0)


def work(folder: Path, ends: Sequence[int], source: fakes.FakeSource) -> list[str]:
    """Status of every image after a run with two images to a shard."""
    store = LocalStore(folder / "data")
    images = [
        planned(fakes.save_flat(folder / f"{number}.png", end, size=(8 + number, 6))) for number, end in enumerate(ends)
    ]
    tasks = plan(store, images, shard_size=2)
    start_ray()
    summaries = list(run_shards(fakes.shard_job(store.root, source=source), tasks, ONE))
    assert sorted(summary.shard for summary in summaries) == [task.shard for task in tasks]
    status = {
        row["image_id"]: row["status"]
        for row in query(connect(store.root), "SELECT image_id, status FROM outcomes").to_pylist()
    }
    return [status[image.image_id] for image in images]


def test_a_killer_image_ends_as_crashed_and_the_rest_is_done(cluster: str, tmp_path: Path) -> None:
    ends = [fakes.FINE, fakes.FINE, fakes.KILLS, fakes.FINE]
    assert work(tmp_path, ends, fakes.FakeSource()) == ["ok", "ok", "crashed", "ok"]


def test_no_image_is_blamed_for_a_machine_that_was_taken_away(cluster: str, tmp_path: Path) -> None:
    source = fakes.FakeSource(died=str(tmp_path / "died"))
    assert work(tmp_path, [fakes.FINE] * 4, source) == ["ok"] * 4
    assert (tmp_path / "died").exists()


def test_a_worker_that_is_told_to_go_is_replaced_and_its_shard_repeated(cluster: str, tmp_path: Path) -> None:
    """A notice is SIGTERM, which Ray turns into SystemExit: it must count as a lost worker, not as a finished one."""
    source = fakes.FakeSource(died=str(tmp_path / "died"), death=signal.SIGTERM)
    assert work(tmp_path, [fakes.FINE] * 4, source) == ["ok"] * 4
    assert (tmp_path / "died").exists()
    assert not list(LocalStore(tmp_path / "data").list("in_flight"))


def test_a_model_that_no_worker_can_load_is_one_line(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_pool, "STARTS", 1)
    with pytest.raises(WorkerError, match="broken checkpoint") as caught:
        work(tmp_path, [fakes.FINE], fakes.FakeSource(model_error="broken checkpoint"))
    assert "\n" not in str(caught.value)


def test_the_pool_follows_the_machine_unless_told_otherwise(cluster: str) -> None:
    assert choose_pool(workers=None, threads=None, on_gpu=False) == Pool(1, 2, 0)
    assert choose_pool(workers=None, threads=1, on_gpu=False) == Pool(2, 1, 0)
    assert choose_pool(workers=3, threads=None, on_gpu=False) == Pool(3, 2, 0)
