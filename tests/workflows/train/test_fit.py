"""Several workers on Ray Train: what one of them alone meets ends the run, and leaves no other waiting for it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.train
from ray.exceptions import RayActorError

from tests.workflows.train.conftest import small_config
from workflows.storage import Store, open_store
from workflows.train import checkpoints
from workflows.train.job import LostError, _fair_share, _fit, _fit_on, _queue_here, _scaling
from workflows.train.loop import MachineError, TrainingError
from workflows.train.samples import Sampler
from workflows.train.sources import open_sources
from workflows.train.worker import TrainJob


class TooMuchForOne(Sampler):
    """Takes the memory of the second worker, once both train together."""

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return TooMuchForOne, (self._sources, self._config)

    @property
    def describe(self) -> Callable[[int], str]:  # type: ignore[override]
        if ray.train.get_context().get_world_rank() == 1:
            raise MemoryError
        return super().describe


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.timeout(300)
def test_too_little_memory_for_one_worker_ends_all(tmp_path: Path, labelled: Path) -> None:
    config = small_config()
    sampler = TooMuchForOne(open_sources((str(labelled),), need_masks=True), config)
    told, over = _queue_here(), _queue_here()
    job = TrainJob(str(tmp_path), "run", config, None, [ray.put(sampler)], told, over, parts=1, every=100, threads=1)
    ctrl_c = signal.getsignal(signal.SIGINT)
    because = r"too little memory for 2 images of 64 px .*there was no checkpoint yet"
    with pytest.raises(TrainingError, match=because) as stopped:
        _fit(job, 2, gpus=False)
    assert isinstance(stopped.value.__cause__, RayActorError)  # given up, before both had begun anew in vain
    assert signal.getsignal(signal.SIGINT) is ctrl_c  # Ray's own handler would swallow it from now on
    has_torch = told.actor.__ray_call__.remote(lambda _: "torch" in __import__("sys").modules)
    assert not ray.get(has_torch)  # which takes seconds and 500 MB, to pass words on


@pytest.mark.usefixtures("cluster")
def test_what_workers_tell_is_kept_where_the_command_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of the cluster that was lost took the queues with it, and the workers that were started again could
    tell nobody: training was given up."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("workflows.train.job.Queue", lambda **options: asked.append(options["actor_options"]))
    _queue_here()
    (options,) = asked
    where = options["scheduling_strategy"]
    assert (where.node_id, where.soft) == (ray.get_runtime_context().get_node_id(), False)


def unstarted(root: Path) -> TrainJob:
    """A job whose workers are never asked."""
    queues: Any = (None, None)
    return TrainJob(str(root), "run", small_config(), None, [], *queues, parts=1, every=100, threads=1)


def test_workers_on_cpus_are_spread_over_the_machines_whose_cores_they_share() -> None:
    """All were on the first one, with as many threads as if the others had their part."""
    assert _scaling(8, gpus=False).placement_strategy == "SPREAD"
    assert _scaling(8, gpus=True).placement_strategy == "PACK"


@pytest.mark.parametrize(
    ("machines", "workers", "on_cpus", "on_gpus"),
    [
        ([{"CPU": 2.0}], 1, 2, None),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 1, 8, None),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 4, 4, None),
        ([{"CPU": 2.0}], 8, 1, None),
        ([{}], 2, 2, 2),
        ([{"CPU": 64.0}, {"CPU": 96.0, "GPU": 8.0}], 8, 20, 6),
        ([{"CPU": 64.0}, {"CPU": 96.0, "GPU": 8.0}], 1, 96, 48),
        ([{"CPU": 32.0, "GPU": 8.0}, {"CPU": 96.0, "GPU": 8.0}], 16, 8, 2),
    ],
)
def test_threads_are_those_of_the_machines_that_work(
    monkeypatch: pytest.MonkeyPatch, machines: list[dict[str, float]], workers: int, on_cpus: int, on_gpus: int | None
) -> None:
    """Cores of machines without a GPU counted, and a worker alone was to have those of two machines."""
    gone = {"Alive": False, "Resources": {"CPU": 1000.0, "GPU": 8.0}}
    alive = [{"Alive": True, "Resources": has} for has in machines]
    monkeypatch.setattr("workflows.train.job.ray.nodes", lambda: [gone, *alive])
    assert _fair_share(workers, gpus=False) == on_cpus
    if on_gpus:
        assert _fair_share(workers, gpus=True) == on_gpus


class Lossy:
    """In the place of `_fit`: each call gets on by so many steps before the workers are given up, and ends at none."""

    def __init__(self, store: Store, steps: list[int]) -> None:
        self._store, self._steps, self.calls, self._step = store, steps, 0, 0

    def __call__(self, job: TrainJob, workers: int, *, gpus: bool) -> None:
        self.calls += 1
        if not self._steps:
            return
        self._step += (more := self._steps.pop(0))
        if more:
            checkpoints.save(self._store, job.run_id, {"step": self._step})
        raise LostError("the workers were given up: a node has died")


def test_lost_workers_begin_again_while_checkpoints_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(str(tmp_path))
    job = unstarted(tmp_path)
    monkeypatch.setattr("workflows.train.job._fit", lossy := Lossy(store, [2, 4, 1]))
    _fit_on(job, store, 2, gpus=False)
    assert lossy.calls == 4
    said = capsys.readouterr().err.splitlines()
    assert [line.rpartition("; ")[2] for line in said] == [
        f"going on from the checkpoint of step {step}" for step in (2, 6, 7)
    ]


@pytest.mark.parametrize("steps", [[0, 3], [3, 0, 3]])
def test_workers_that_are_lost_without_a_new_checkpoint_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[int]
) -> None:
    store = open_store(str(tmp_path))
    job = unstarted(tmp_path)
    monkeypatch.setattr("workflows.train.job._fit", lossy := Lossy(store, list(steps)))
    with pytest.raises(MachineError, match="a node has died"):
        _fit_on(job, store, 2, gpus=False)
    assert lossy.calls == steps.index(0) + 1
