"""How far runs have got, told from files alone."""

from __future__ import annotations

import json
import re
import shlex
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sam_core.recipes import draft
from schemas.layout import in_flight_key, outcomes_key, run_key
from schemas.parquet import from_parquet_bytes, to_parquet_bytes
from schemas.records import RunRecord, to_json
from tests.workflows import fakes
from tests.workflows.conftest import Engine
from tests.workflows.planned import plan, planned
from tests.workflows.report.data_sets import DataSet, boxes, done, photos, run_record
from workflows import status as module
from workflows.cli import parse
from workflows.plans import ShardTask
from workflows.shard_worker import ShardWorker
from workflows.status import run_statuses
from workflows.storage import LocalStore, Store, open_store


def half_done(store: Store, folder: Path, *, model: str = "fake") -> ShardTask:
    """Six images in three shards, of which two are done; the second image is no success. The shard that is left."""
    ends = [fakes.FINE, fakes.FAILS, *[fakes.FINE] * 4]
    images = [planned(fakes.save_flat(folder / f"{n}.png", end, size=(8 + n, 6))) for n, end in enumerate(ends)]
    tasks = plan(store, sorted(images), shard_size=2)
    values = {"recipe_name": "draft", "recipe": json.loads(draft().to_json())}
    store.put(run_key("run"), to_json(replace(fakes.run_record(), model_name=model, **values)).encode())
    worker = ShardWorker(fakes.shard_job(store.root))
    for task in tasks[:2]:
        worker.work(task)
    store.put(in_flight_key("run", 2), b"{}")
    return tasks[2]


def spread_over_a_night(store: Store) -> None:
    """The two shards that are done are of two commands, 12 hours apart, 20 s each, 10 for each image, 2 to read it."""
    for shard in (0, 1):
        table = from_parquet_bytes(store.get(outcomes_key("run", shard)))
        for number, row in enumerate(rows := table.to_pylist()):
            begun = datetime(2026, 1, 2) + timedelta(hours=12 * shard, seconds=10 * number)
            row |= {"started_at": begun, "finished_at": begun + timedelta(seconds=10), "seconds_read": 2.0}
            row |= {"seconds_decode_image": 0.0, "host": "here", "worker": str(shard)}
        store.put(outcomes_key("run", shard), to_parquet_bytes(pa.Table.from_pylist(rows, table.schema)))


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_run_half_way(place: str, tmp_path: Path, engine: Engine, request: pytest.FixtureRequest) -> None:
    root = str(tmp_path / "data") if place == "local" else f"s3://{request.getfixturevalue('bucket')}/data"
    store = open_store(root)
    half_done(store, tmp_path)
    (run,) = run_statuses(store)
    assert (run.images, run.images_done, run.shards, run.shards_done, run.shards_in_work) == (6, 4, 3, 2, 1)
    assert (run.read, run.masks + sum(run.errors.values()), run.crashed, run.workers) == (4, 4, 0, 1)
    assert run.seconds_left == pytest.approx(2 / run.rate)
    said = engine("status", root)
    assert said.status == 0
    assert "4 of 6 images, 2 of 3 shards; 1 in work" in said.out
    assert "left at this rate" in said.out
    assert " by 1 worker on 1 host, " in said.out
    (document,) = json.loads(engine("status", root, "--json").out)
    assert document["images_done"] == 4


def test_a_night_between_two_commands_is_not_in_the_rate(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "data")
    half_done(store, tmp_path)
    spread_over_a_night(store)
    (run,) = run_statuses(store)
    assert (run.rate, run.seconds_left, run.workers) == (0.1, 20, 1)
    ended = datetime(2026, 1, 2, 12, 0, 20, tzinfo=UTC)
    assert run.idle == pytest.approx((datetime.now(UTC) - ended).total_seconds(), abs=60)


def test_a_damaged_file_is_named(tmp_path: Path, engine: Engine) -> None:
    store = LocalStore(tmp_path / "data")
    half_done(store, tmp_path)
    store.put(outcomes_key("run", 1), b"PAR1")
    said = engine("status", store.root)
    assert said.status == 2
    assert f"{store.root}/{outcomes_key('run', 1)}: not a readable Parquet file" in said.err


def test_it_reads_a_bounded_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "data")
    half_done(store, tmp_path)
    monkeypatch.setattr(module, "SHARDS_READ", 1)
    read: list[str] = []
    get = store.get
    monkeypatch.setattr(store, "get", lambda key, **rest: read.append(key) or get(key, **rest))
    (run,) = run_statuses(store)
    assert read == ["runs/run.json", "outcomes/run=run/shard-00000001.parquet"]
    assert (run.images_done, run.read) == (4, 2)


def test_a_run_that_is_not_planned_yet_is_not_finished(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while `generate` lists a large source."""
    store = LocalStore(tmp_path / "data")
    store.put(run_key("run"), to_json(fakes.run_record()).encode())
    (run,) = run_statuses(store)
    assert (run.shards, run.finished) == (0, False)
    pauses: list[ShardTask] = []

    def meanwhile(_: float) -> None:
        """Two of three shards are done in the first pause, the last one in the second."""
        pauses.append(half_done(store, tmp_path) if not pauses else pauses[0])
        if len(pauses) == 2:
            ShardWorker(fakes.shard_job(store.root)).work(pauses[0])

    monkeypatch.setattr(module.time, "sleep", meanwhile)
    assert engine("status", store.root, "--watch", "1").status == 0
    assert len(pauses) == 2
    assert "no shard is planned yet" in module.in_words(run)


def test_a_run_without_a_plan_is_what_it_holds(tmp_path: Path, engine: Engine) -> None:
    """As those of the rounds."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    images = data.add_images(photos(tmp_path / "photos", 2, rng=rng))
    data.add_run([done(image, boxes((24, 36), 3, rng=rng), rng=rng) for image in images], run_record("by-hand"))
    said = engine("status", data.root, "--watch", "1")
    assert said.status == 0
    assert "2 of 2 images, 1 of 1 shards; finished" in said.out
    assert "in all of them: 6 masks" in said.out
    assert "images/s" not in said.out  # all began and ended at noon


def test_the_oldest_run_comes_first(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "data")
    for name, day in (("a", 3), ("b", 1), ("c", 2)):
        record = replace(fakes.run_record(name), created_at=datetime(2026, 1, day, tzinfo=UTC))
        store.put(run_key(name), to_json(record).encode())
    assert [run.run_id for run in run_statuses(store)] == ["b", "c", "a"]


def test_runs_are_asked_for_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an object store each takes some requests, one after the other."""
    data = DataSet(tmp_path / "data")
    for minute, name in enumerate(("one", "two", "three", "four")):
        data.add_run([], run_record(name, minute=minute))
    two, asked = threading.Barrier(2), module.run_status

    def together(store: Store, run: RunRecord) -> module.RunStatus:
        two.wait(timeout=10)
        return asked(store, run)

    monkeypatch.setattr(module, "run_status", together)
    found = run_statuses(open_store(data.root))
    assert [run.run_id.partition("-")[0] for run in found] == ["one", "two", "three", "four"]


def test_no_runs_is_said_in_one_line_with_a_command_to_paste(tmp_path: Path, engine: Engine) -> None:
    said = engine("status", tmp_path / "Ann's masks")
    assert said.status == 2
    assert "no runs here" in said.err
    (command,) = re.findall(r"`(.*)`", said.err)
    assert shlex.split(command)[-1] == str(tmp_path / "Ann's masks")


def test_a_watch_without_a_pause_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^--watch is 0\.0; it must be positive; see `sam-engine status --help`$"):
        parse(["status", "data", "--watch", "0"])
