"""Samples on their way to a worker: made by Ray Data's tasks beside the model, in the order of the steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import ray
import ray.data
import torch
from ray.data import DataContext
from safetensors.torch import load, save

from sam_core.training.targets import TrainBatch
from workflows.failures import one_line
from workflows.train.loop import Parts
from workflows.train.samples import Sampler, numbers_of
from workflows.train.team import Team

LOADER_CORES = 0.5
STEPS_AT_ONCE = 512
"""Steps planned together: Ray Data keeps a little of every block it plans."""


def stream(
    sampler: ray.ObjectRef[Sampler], team: Team, *, images: int, parts: int, first: int, last: int
) -> Iterator[Parts]:
    """One worker's batches of steps first..last - 1. Raises ValueError, one line, when one cannot be made."""
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False

    def make(row: dict[str, Any]) -> dict[str, Any]:
        one_thread()
        numbers = [
            numbers_of(row["id"], images, rank=team.rank, workers=team.workers, part=part, parts=parts)
            for part in range(parts)
        ]
        try:
            made = [to_bytes(ray.get(sampler).batch(each)) for each in numbers]
        except (ValueError, OSError) as error:
            return {"failure": one_line(error), "parts": []}
        return {"failure": "", "parts": made}

    for start in range(first, last, STEPS_AT_ONCE):
        count = min(STEPS_AT_ONCE, last - start)
        planned = ray.data.range(count, override_num_blocks=count)
        steps = planned.map(lambda row, start=start: make({"id": row["id"] + start}), num_cpus=LOADER_CORES)
        for row in steps.iter_rows():
            if row["failure"]:
                raise ValueError(row["failure"])
            yield [from_bytes(part) for part in row["parts"]]


def to_bytes(batch: TrainBatch) -> bytes:
    """A batch as bytes, eight mask pixels in one."""
    bits = np.packbits(batch.masks.numpy(), axis=-1)
    tensors = {name: getattr(batch, name).contiguous() for name in ("images", "sizes", "image_of", "numbers")}
    if batch.text is not None:
        tensors["text"] = batch.text.contiguous()
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
