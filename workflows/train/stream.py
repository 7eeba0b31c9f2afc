"""Samples on their way to a worker: made by actors of Ray beside the model, some steps ahead, in the order of steps.

Not by Ray Data: its executor is a thread of the process that reads, and while finished steps wait to be read it asks
for news without a pause, which took the interpreter from the model's own thread and made a step three times as long.
Nor by tasks: Ray ends a process that has had no task for a second where there are as many processes as cores, and the
next step's task began with all imports anew, which on two cores took as long as training itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

import cv2
import numpy as np
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from safetensors.torch import load, save

from sam_core.training.targets import TrainBatch
from workflows.failures import WorkerError, one_line
from workflows.train.loop import Made
from workflows.train.samples import Sampler, numbers_of
from workflows.train.team import Team

AHEAD = 8
"""Steps that are being made or wait to be read."""
RETRIES = 3
"""How often a step may take its loader down with it."""


class Loader:
    """Makes samples in a process of its own, which keeps what it has read."""

    def __init__(self, sampler: Sampler) -> None:
        one_thread()
        self._sampler = sampler

    def make(self, numbers: Sequence[range]) -> tuple[list[bytes], dict[str, str]] | ValueError | OSError:
        """The parts of a step and what was left out of them, or in one line why there are none: an OSError where a
        store or machine is at fault."""
        try:
            parts = [to_bytes(self._sampler.batch(each)) for each in numbers]
        except ValueError as error:
            return ValueError(one_line(error))
        except OSError as error:
            return WorkerError(one_line(error))
        return parts, self._sampler.take_left_out()


def stream(
    sampler: ray.ObjectRef[Sampler], team: Team, *, images: int, parts: int, first: int, last: int, loaders: int
) -> Iterator[Made]:
    """One worker's batches of steps first..last - 1, made by so many loaders. Raises ValueError or OSError, one line,
    when one cannot be made."""
    actors = start_loaders(sampler, loaders)
    place = {"rank": team.rank, "workers": team.workers, "parts": parts}
    numbers = ([numbers_of(step, images, part=part, **place) for part in range(parts)] for step in range(first, last))
    steps = (actor.make.remote(each) for actor, each in zip(cycle(actors), numbers, strict=False))
    begun = deque(islice(steps, AHEAD))
    while begun:
        made = ray.get(begun.popleft())
        begun.extend(islice(steps, 1))
        if isinstance(made, Exception):
            raise made
        parts_made, left_out = made
        yield Made([from_bytes(part) for part in parts_made], left_out)


def start_loaders(sampler: ray.ObjectRef[Sampler], count: int) -> list[Any]:
    """Actors beside this process.

    They book no core, as a loader that waited for one would stop all workers for ever; hence a place must be named.
    """
    beside = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    loader = ray.remote(Loader).options(
        num_cpus=0, max_restarts=-1, max_task_retries=RETRIES, scheduling_strategy=beside
    )
    return [loader.remote(sampler) for _ in range(count)]


def to_bytes(batch: TrainBatch) -> bytes:
    """A batch as bytes, eight mask pixels in one."""
    bits = np.packbits(batch.masks.numpy(), axis=-1)
    tensors = {name: getattr(batch, name).contiguous() for name in ("images", "sizes", "image_of", "numbers")}
    for name, tensor in (("text", batch.text), ("centres", batch.centres)):
        if tensor is not None:
            tensors[name] = tensor.contiguous()
    return save(tensors | {"masks": torch.from_numpy(bits)})


def from_bytes(data: bytes) -> TrainBatch:
    """The inverse of `to_bytes`."""
    tensors = load(bytes(data))
    side = tensors["images"].shape[1]
    masks = np.unpackbits(tensors.pop("masks").numpy(), axis=-1, count=side).astype(bool)
    return TrainBatch(masks=torch.from_numpy(masks), **tensors)


def one_thread() -> None:
    """Loaders run side by side; each keeps to one core."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
