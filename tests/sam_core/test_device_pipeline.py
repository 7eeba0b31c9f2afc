"""Who goes on when, with tasks that note what they do, and what becomes of batches that fail."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import numpy as np
import pytest
import torch

from sam_core.device_batch import Answer, BatchWorker, CropInput, Task
from sam_core.device_pipeline import DevicePipeline
from sam_core.device_settings import BatchSizes
from sam_core.geometry import frame_of

SIZES = BatchSizes(crops=4, prompts=64)


class NotingWorker:
    """Batches of two tasks with two stops each; an answer is a crop's width. trouble: may raise, given the widths."""

    def __init__(self, trouble: Callable[[list[int], BatchSizes], None] = lambda *_: None) -> None:
        self.notes: list[str] = []
        self._trouble = trouble

    def tasks(
        self, batch: Sequence[CropInput], sizes: BatchSizes, done: Callable[[list[Answer]], None]
    ) -> Iterator[Task]:
        return (self._task(batch, sizes, done, number) for number in range(2))

    def precision(self) -> AbstractContextManager[None]:
        return nullcontext()

    def release(self) -> None:
        self.notes.append("released")

    def _task(self, batch: Sequence[CropInput], sizes: BatchSizes, done: Callable[..., None], number: int) -> Task:
        widths = [crop.frame.original_size[1] for crop in batch]
        name = f"{'+'.join(map(str, widths))}.{number}"
        self.notes.append(f"{name} asked")
        yield
        self._trouble(widths, sizes)
        self.notes.append(f"{name} drawn")
        yield
        self.notes.append(f"{name} selected")
        if number:
            done(widths)


def crop(width: int) -> CropInput:
    points = np.zeros((1, 2))
    return CropInput(frame_of((8, width), image_size=16), points, points, torch.zeros(8, width, 3, dtype=torch.uint8))


def run(
    worker: NotingWorker, batches: Sequence[Sequence[int]], sizes: BatchSizes = SIZES
) -> tuple[list[object], DevicePipeline]:
    """Every batch of crops of these widths through a pipeline: what it told, in order."""
    told: list[object] = []
    pipeline = DevicePipeline(cast(BatchWorker, worker), sizes)
    for batch in batches:
        pipeline.add([crop(width) for width in batch], told.append)
    pipeline.drain()
    return told, pipeline


def test_the_host_waits_only_for_what_has_younger_work_behind_it() -> None:
    worker = NotingWorker()
    told, _ = run(worker, [[1], [2]])
    assert told == [[1], [2]]
    assert worker.notes == [
        "1.0 asked",
        "1.1 asked",
        "1.0 drawn",
        "2.0 asked",
        "1.1 drawn",
        "1.0 selected",
        "2.1 asked",
        "2.0 drawn",
        "1.1 selected",
        "2.1 drawn",
        "2.0 selected",
        "2.1 selected",
    ]


def test_a_batch_that_fails_costs_no_other() -> None:
    def broken(widths: list[int], _: BatchSizes) -> None:
        if 2 in widths:
            raise RuntimeError("device-side assert")

    told, pipeline = run(NotingWorker(broken), [[1], [2, 3], [4]])
    assert isinstance(told[0], RuntimeError)  # as soon as it is known, before the batch ahead of it is done
    assert told[1:] == [[1], [4]]
    assert pipeline.sizes == SIZES


def test_when_memory_runs_out_everything_in_work_is_repeated_in_smaller_parts() -> None:
    def short(widths: list[int], sizes: BatchSizes) -> None:
        if len(widths) > 1 and 5 in widths:
            raise torch.OutOfMemoryError("CUDA out of memory")

    worker = NotingWorker(short)
    told, pipeline = run(worker, [[1, 2, 3, 4], [5, 6, 7]])
    assert told == [[1, 2, 3, 4], [5, 6, 7]]
    assert pipeline.sizes == BatchSizes(crops=1, prompts=16)
    assert worker.notes.count("released") == 2


def test_a_crop_that_never_fits_costs_no_other() -> None:
    def short(widths: list[int], _: BatchSizes) -> None:
        if 2 in widths:
            raise torch.OutOfMemoryError("CUDA out of memory")

    told, _ = run(NotingWorker(short), [[1], [2], [3]], BatchSizes(crops=1, prompts=16))
    assert [str(each) for each in told] == ["[1]", "CUDA out of memory", "[3]"]


def test_what_does_not_fit_beside_others_is_tried_alone() -> None:
    worker = NotingWorker()
    begun: list[int] = []

    def short(widths: list[int], _: BatchSizes) -> None:
        begun.extend(widths)
        if begun == [1, 1, 2]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    worker = NotingWorker(short)
    told, pipeline = run(worker, [[1], [2]], BatchSizes(crops=1, prompts=16))
    assert told == [[1], [2]]
    assert worker.notes.count("released") == 1
    assert pipeline.sizes.smallest


def test_the_attempt_that_failed_holds_nothing() -> None:
    kept: list[weakref.ref[object]] = []

    def short(widths: list[int], sizes: BatchSizes) -> None:
        tensors = NotingWorker()  # anything that can be referred to
        kept.append(weakref.ref(tensors))
        if len(kept) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert kept[0]() is None

    run(NotingWorker(short), [[1, 2]])
    assert len(kept) > 1


@pytest.mark.parametrize("batches", [[[1]], [[1], [2]]])
def test_memory_that_is_too_small_for_anything_ends_every_batch(batches: list[list[int]]) -> None:
    def none(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    told, pipeline = run(NotingWorker(none), batches)
    assert [type(each) for each in told] == [torch.OutOfMemoryError] * len(batches)
    assert pipeline.sizes.smallest
