"""What can go wrong in a disturbed run would be counted; disturbed runs themselves are in workflows/test_kill.py."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path

import pytest

from schemas.layout import masks_key, outcomes_key
from tests.benchmarks.fault_cluster import Cluster
from tests.benchmarks.fault_findings import Findings, examine, reference_rows
from tests.benchmarks.faults import ON_ONE_NODE, Bench, Options, Run, choose_kinds, disturb
from tests.workflows import fakes
from tests.workflows.fault_proxy import FaultProxy
from tests.workflows.planned import plan, planned
from workflows.shard_worker import ShardWorker
from workflows.storage import LocalStore

IMAGES = 3


@pytest.fixture
def data(tmp_path: Path) -> LocalStore:
    """Three images in three shards, whole; their ids begin with the run's first."""
    store = LocalStore(tmp_path / "data")
    images = [planned(fakes.save_flat(tmp_path / f"{n}.png", fakes.FINE, size=(8 + n, 6))) for n in range(IMAGES)]
    worker = ShardWorker(fakes.shard_job(store.root))
    for task in plan(store, images, shard_size=1):
        worker.work(task)
    return store


def findings(store: LocalStore, expected: list[tuple[object, ...]]) -> Findings:
    return examine(store.root, IMAGES, expected)


def test_every_kind_of_harm_is_counted(data: LocalStore) -> None:
    expected = reference_rows(data.root)
    assert findings(data, expected).lost == 0
    assert findings(data, expected).differing == 0
    assert findings(data, expected[1:]).differing == 1
    first_masks, first_outcomes = (data._path(key("run", 0)) for key in (masks_key, outcomes_key))
    shutil.copy(first_masks, data._path(masks_key("run", 7)))
    shutil.copy(first_outcomes, data._path(outcomes_key("run", 7)))
    assert findings(data, expected).duplicated == 2
    shutil.copy(data._path(masks_key("run", 1)), data._path(masks_key("run", 7)))
    assert findings(data, expected).partial >= 1
    for key in (masks_key, outcomes_key):
        data.delete(key("run", 7))
    data.delete(outcomes_key("run", 0))
    data.put("in_flight/run=run/shard-00000000.json", b"{}")
    found = findings(data, expected)
    assert (found.lost, found.differing, found.leftovers) == (1, 1, 1)


def test_kinds_are_shared_out_evenly_and_checked() -> None:
    wanted = tuple(ON_ONE_NODE)
    kinds = choose_kinds(Options(kills=12, kinds=wanted, seed=5))
    assert {kind: kinds.count(kind) for kind in wanted} == dict.fromkeys(wanted, 2)
    assert kinds != choose_kinds(Options(kills=12, kinds=wanted, seed=6))
    with pytest.raises(ValueError, match="cannot disturb by flood here; possible: driver"):
        choose_kinds(Options(kinds=("flood",)))


@pytest.mark.parametrize("too_late", range(6))
def test_where_runs_have_their_data_does_not_depend_on_how_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, too_late: int
) -> None:
    """A run that was over before it was struck is done again, and draws again: all of them may have been in folders."""
    attempts = iter(range(too_late + 3))

    def run(bench: Bench, kind: str, dataset: str, _: object) -> Run | None:
        bench.chance.random()
        return Run(kind, dataset[:2], 0, 1, 0.0, Findings()) if next(attempts) >= too_late else None

    monkeypatch.setattr("tests.benchmarks.faults.disturbed_run", run)
    monkeypatch.setattr("tests.benchmarks.faults.reference_rows", lambda _: [])
    monkeypatch.setattr(Bench, "here", lambda *_: 0)
    cluster, proxy = Cluster("127.0.0.1", {}, head=0, port=0), FaultProxy("")
    bench = Bench(tmp_path, cluster, proxy, random.Random(3), workers=1, log=io.StringIO())
    places = [run.place for run in disturb(bench, ["driver", "worker", "in_write"], float("inf"))]
    assert places == ["s3", str(tmp_path)[:2], "s3"]
