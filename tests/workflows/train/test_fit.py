"""Several workers on Ray Train: what one of them alone meets ends the run, and leaves no other waiting for it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import ray.train
from ray.util.queue import Queue

from tests.workflows.train.conftest import small_config
from workflows.train.job import _fit
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
    told, over = (Queue(actor_options={"num_cpus": 0}) for _ in range(2))
    job = TrainJob(str(tmp_path), "run", config, None, [ray.put(sampler)], told, over, parts=1, every=100, threads=1)
    ctrl_c = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingError, match=r"too little memory for 2 images of 64 px .*there was no checkpoint yet"):
        _fit(job, 2, gpus=False)
    assert signal.getsignal(signal.SIGINT) is ctrl_c  # Ray's own handler would swallow it from now on
    has_torch = told.actor.__ray_call__.remote(lambda _: "torch" in __import__("sys").modules)
    assert not ray.get(has_torch)  # which takes seconds and 500 MB, to pass words on
