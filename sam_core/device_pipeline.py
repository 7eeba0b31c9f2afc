"""Batches on their way through a device, several at a time, so that it always has something to do.

A task stops where it needs what the device is still at. Whenever a task is begun, every other one goes on to its next
stop, the youngest first: by the time the host waits for what an old one asked of the device, the device has the work of
the younger ones before it. And the crops of the next batch are being encoded while the prompts of one are decoded.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from sam_core.device_batch import Answer, BatchWorker, CropInput, Task
from sam_core.device_settings import BatchSizes

_log = logging.getLogger(__name__)
Done = Callable[[list[Answer] | Exception], None]


@dataclass(slots=True, eq=False)
class _Batch:
    """Crops in work, the answers so far, and who is told them, or why there are none."""

    crops: Sequence[CropInput]
    done: Done
    answers: list[Answer] = field(default_factory=list)


class DevicePipeline:
    """Takes batches, and tells their answers later. sizes: the largest ones, smaller once memory was short."""

    def __init__(self, worker: BatchWorker, sizes: BatchSizes) -> None:
        self.sizes = sizes
        self._worker = worker
        self._open: list[_Batch] = []
        self._next: tuple[_Batch, Iterator[Task]] | None = None
        self._alone: _Batch | None = None  # the only one in work, after memory was short
        self._running: deque[tuple[_Batch, Task]] = deque()

    def add(self, crops: Sequence[CropInput], done: Done) -> None:
        """Begin to work on at most `sizes.crops` crops; this or a later call of any method will call `done`."""
        batch = _Batch(crops, done)
        self._open.append(batch)
        self._within_memory(lambda: self._take(batch, crops))

    def drain(self) -> None:
        """Finish everything."""
        self._within_memory(self._to_the_end)

    def _take(self, batch: _Batch, crops: Sequence[CropInput]) -> None:
        """Have some crops of a batch encoded, and decode the prompts of the one before meanwhile."""
        before, self._next = self._next, None
        self._encode(batch, crops)
        self._decode(before)

    def _within_memory(self, work: Callable[[], None]) -> None:
        """Does it; when memory runs out, everything open is done again, in as small batches as it turns out to need."""
        while short := _shortage(work):
            self._running.clear()
            self._next = None
            self._worker.release()
            self._shrink(short)
            work = self._one_by_one

    def _shrink(self, error: torch.OutOfMemoryError) -> None:
        """Go on with half of the sizes; where nothing is smaller, without the batch that was the only one in work."""
        if self.sizes.smallest:
            if self._alone in self._open:
                self._close(self._alone, error)
            return
        self.sizes = self.sizes.halved()
        _log.warning(
            "out of memory on the device: going on with batches of %d crops and %d prompts",
            self.sizes.crops,
            self.sizes.prompts,
        )

    def _one_by_one(self) -> None:
        """Finish every open batch, in parts, before the next one is begun."""
        for batch in list(self._open):
            self._alone = batch
            while batch in self._open:
                self._take(batch, batch.crops[len(batch.answers) :][: self.sizes.crops])
                self._to_the_end()
        self._alone = None

    def _encode(self, batch: _Batch, crops: Sequence[CropInput]) -> None:
        """Raises torch.OutOfMemoryError; any other error is the end of the batch."""

        def answered(answers: list[Answer]) -> None:
            batch.answers += answers
            if len(batch.answers) == len(batch.crops):
                self._close(batch, batch.answers)

        try:
            with self._worker.precision():
                self._next = batch, self._worker.tasks(crops, self.sizes, answered)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._close(batch, error)

    def _decode(self, encoded: tuple[_Batch, Iterator[Task]] | None) -> None:
        """Begin all tasks of a batch that was encoded."""
        if encoded is None:
            return
        batch, tasks = encoded
        for task in tasks:
            if batch not in self._open:
                return  # it failed
            self._running.appendleft((batch, task))
            self._go_on()

    def _to_the_end(self) -> None:
        before, self._next = self._next, None
        self._decode(before)
        while self._running:
            self._go_on()

    def _go_on(self) -> None:
        """Every task to its next stop, the youngest first."""
        for batch, task in list(self._running):
            if batch not in self._open:
                continue
            try:
                with self._worker.precision():
                    next(task)
            except StopIteration:
                self._running.remove((batch, task))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                self._close(batch, error)

    def _close(self, batch: _Batch, result: list[Answer] | Exception) -> None:
        """Tell the end of a batch."""
        self._open.remove(batch)
        if isinstance(result, Exception):
            self._running = deque(each for each in self._running if each[0] is not batch)
        batch.done(result)


def _shortage(work: Callable[[], None]) -> torch.OutOfMemoryError | None:
    """Does it, and returns what memory ran out with, if it did; without its frames, which hold memory themselves."""
    try:
        work()
    except torch.OutOfMemoryError as error:
        return error.with_traceback(None)
    return None
