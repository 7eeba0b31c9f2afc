"""One image from its URI to its result; whatever is wrong with an image ends in a row, not in an exception."""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.ids import image_id as id_of_bytes
from schemas.ids import unreadable_image_id
from schemas.records import RunRecord
from schemas.tables import Status
from schemas.validate import check_masks
from workflows.convert import ImageResult, mask_table
from workflows.images import ImageError, byte_limit, decode
from workflows.models import Generator, GeneratorSource
from workflows.redact import redact
from workflows.sources import UriReader
from workflows.storage import StoreError, TooLargeError


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What every worker of a run is told. Times are seconds; `threads` is how many CPU threads one worker may use."""

    dataset: str
    run: RunRecord
    generator: GeneratorSource
    max_pixels: int
    image_timeout: float
    threads: int


class PlannedImage(NamedTuple):
    """One row of the plan."""

    image_id: str
    uri: str


class LoadedImage(NamedTuple):
    """An image read and decoded, uint8 RGB [H, W, 3], or the reason why there are no pixels."""

    planned: PlannedImage
    pixels: NDArray[np.uint8] | ImageError
    started_at: datetime
    read_seconds: float
    decode_seconds: float


class ImageWorker:
    """Reads, decodes and segments images. Loads the model when it is made and keeps nothing between images."""

    def __init__(self, job: ShardJob) -> None:
        _use_threads(job.threads)
        self._run = job.run
        self._max_pixels = job.max_pixels
        self._reader = UriReader(max_bytes=byte_limit(job.max_pixels))
        self._generator: Generator = job.generator.load(threads=job.threads)

    def load(self, planned: PlannedImage) -> LoadedImage:
        """Read and decode; safe in any thread. Raises StoreError when the store, not the image, is at fault."""
        started_at, start = datetime.now(UTC), time.perf_counter()
        pixels: NDArray[np.uint8] | ImageError
        read = start
        try:
            data = self._read(planned)
            read = time.perf_counter()
            pixels = decode(data, max_pixels=self._max_pixels)
        except ImageError as error:
            pixels = error
        return LoadedImage(planned, pixels, started_at, read - start, time.perf_counter() - read)

    def segment(self, loaded: LoadedImage) -> ImageResult:
        """The masks of a loaded image, checked, or its error."""
        if isinstance(loaded.pixels, ImageError):
            return _failed(loaded, loaded.pixels.kind, str(loaded.pixels))
        try:
            generation = self._generator.generate(loaded.pixels)
            result = _result(loaded, Status.OK, generation=generation)
            check_masks(mask_table(self._run, [result]))
        except Exception as error:  # whatever happens to one image must not cost the others
            return _failed(loaded, type(error).__name__, str(error))
        return result

    def _read(self, planned: PlannedImage) -> bytes:
        """The bytes of an image, which must be those that the plan lists."""
        try:
            data = self._reader.read(planned.uri)
        except StoreError:
            raise
        except TooLargeError as error:
            raise ImageError("TooManyBytes", str(error)) from error
        except OSError as error:
            raise ImageError("Unreadable", f"{error.strerror or error}") from error
        if planned.image_id not in (id_of_bytes(data), unreadable_image_id(planned.uri)):
            raise ImageError("Changed", "the file has other bytes than when it was ingested")
        return data


def crashed(planned: PlannedImage, started_at: datetime, message: str) -> ImageResult:
    """The result of an image that took its process down."""
    now = datetime.now(UTC)
    return ImageResult(
        planned.image_id, Status.CRASHED, started_at, now, error_class="Crashed", error_message=_one_line(message)
    )


@contextmanager
def time_limit(seconds: float) -> Iterator[Callable[[], None]]:
    """End this process unless the yielded function is called within the limit, again and again.

    The clock is kept by a thread of C code, so it also ends a process that hangs outside of Python.
    """

    def restart() -> None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)

    restart()
    try:
        yield restart
    finally:
        faulthandler.cancel_dump_traceback_later()


def _use_threads(threads: int) -> None:
    """Keep the numeric libraries of this process to its share of the cores."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _failed(loaded: LoadedImage, error_class: str, message: str) -> ImageResult:
    return _result(loaded, Status.ERROR, error_class=error_class, error_message=_one_line(message))


def _result(loaded: LoadedImage, status: Status, **rest: object) -> ImageResult:
    return ImageResult(
        loaded.planned.image_id,
        status,
        loaded.started_at,
        datetime.now(UTC),
        loaded.read_seconds,
        loaded.decode_seconds,
        **rest,  # type: ignore[arg-type]
    )


def _one_line(message: str) -> str:
    return redact(" ".join(message.split()))[:500]
