"""Stores, machines and disks that fail while a shard is worked on: no image is at fault."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from schemas.layout import in_flight_key
from tests.workflows import fakes
from tests.workflows.conftest import no_more_files
from tests.workflows.planned import plan, planned
from workflows.image_worker import ImageWorker
from workflows.shard_worker import ShardWorker
from workflows.storage import LocalStore, StoreError
from workflows.uris import UriReader


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "data")


def test_a_failing_store_stops_the_shard_without_a_commit(
    tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = plan(store, [planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))], shard_size=1)
    worker = ShardWorker(fakes.shard_job(store.root))

    def unreachable(_: str) -> bytes:
        raise StoreError("cannot read s3://x: SlowDown")

    monkeypatch.setattr(worker._worker._reader, "read", unreachable)
    assert worker(asdict(task)) == {"failure": "cannot read s3://x: SlowDown"}
    assert not list(store.list("outcomes"))


def test_a_failing_machine_is_not_the_image_s_fault(tmp_path: Path) -> None:
    image = planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))
    worker = ImageWorker(fakes.shard_job(tmp_path))
    with no_more_files(), pytest.raises(OSError) as failure:
        worker.load(image)
    assert failure.value.errno == errno.EMFILE
    assert worker.segment(worker.load(image)).status == "ok"


def test_a_failing_machine_gives_the_shard_back(
    tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No marker stays, for which the next attempt would work image by image."""
    (task,) = plan(store, [planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))], shard_size=1)
    worker = ShardWorker(fakes.shard_job(store.root))
    with monkeypatch.context() as patch:
        patch.setattr(UriReader, "read", fails_with(errno.ESTALE))
        with pytest.raises(OSError, match=r"[Ss]tale"):
            worker.work(task)
    assert not store.exists(in_flight_key("run", 0))
    assert worker.work(task).errors == 0


def test_a_full_disk_of_a_compiler_is_not_the_image_s_fault(tmp_path: Path, store: LocalStore) -> None:
    """Kernels are compiled at the first image; a home folder without room made error rows of all of them, for good."""
    (task,) = plan(store, [planned(fakes.save_flat(tmp_path / "a.png", fakes.FULL))], shard_size=1)
    for _ in range(2):  # neither together nor apart
        told = ShardWorker(fakes.shard_job(store.root))(asdict(task))
        assert told == {"failure": "/home/ada/.triton/cache/x: No space left on device"}
        assert not list(store.list("outcomes"))
        store.put(in_flight_key("run", 0), b"{}")


def fails_with(number: int) -> Callable[..., bytes]:
    def fail(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    return fail
