"""Several workers on Ray Train: what one of them alone meets ends the run, and leaves no other waiting for it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.train

from tests.workflows.train.conftest import small_config
from workflows.train.job import _fit, _queue_here
from workflows.train.loop import TrainingError
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


@pytest.mark.usefixtures("cluster")
@pytest.mark.timeout(300)
def test_too_little_memory_for_one_worker_ends_all(tmp_path: Path, labelled: Path) -> None:
    config = small_config()
    sampler = TooMuchForOne(open_sources((str(labelled),), need_masks=True), config)
    told, over = _queue_here(), _queue_here()
    job = TrainJob(str(tmp_path), "run", config, None, [ray.put(sampler)], told, over, parts=1, every=100, threads=1)
    ctrl_c = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingError, match=r"too little memory for 2 images of 64 px .*there was no checkpoint yet"):
        _fit(job, 2, gpus=False)
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
