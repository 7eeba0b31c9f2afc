"""One image from its URI to its result; whatever is wrong with an image ends in a row, not in an exception."""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sam_core.masks.batch import Generation
from schemas.ids import image_id as id_of_bytes
from schemas.ids import unreadable_image_id
from schemas.records import RunRecord
from schemas.tables import Status
from workflows.convert import ImageResult
from workflows.failures import is_of_the_machine, one_line
from workflows.image_limits import byte_limit
from workflows.images import UNREADABLE, ImageError, decode
from workflows.models import Generator, GeneratorSource
from workflows.redact import redact
from workflows.storage import S3_SCHEME, TooLargeError, local_path
from workflows.uris import UriReader

RESTARTS_PER_LIMIT = 50
"""The time limit of an image is exact to this part of it."""
LOST_DEVICE = 78
"""Exit status of a worker that cannot use its GPU any more."""
REFUSED = "Refused"
"""Error class of an image that its store denies access to now, although it could be read when it was ingested."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A picture on a disk of the machine where the command runs; workers elsewhere look whether they see it, too."""

    uri: str
    host: str

    def require_here(self) -> None:
        """Raises OSError on another machine that has no such file: no picture is at fault."""
        here = socket.gethostname()
        if here != self.host and not local_path(self.uri).is_file():
            raise OSError(
                f"{self.uri} is on {self.host} and not on {here}, where a worker is: for several machines pictures "
                "lie in s3:// or in a folder that all of them mount"
            )


@dataclass(frozen=True, slots=True)
class ShardJob:
    """What every worker of a run is told. Times are seconds; `threads` is how many CPU threads one worker may use.

    `image_memory`: bytes that an image may take when it is worked on apart; half of what is free when None. `seen`: one
    of the pictures, where they lie on a disk.
    """

    dataset: str
    run: RunRecord
    generator: GeneratorSource
    max_pixels: int
    image_timeout: float
    threads: int
    image_memory: int | None = None
    seen: SeenFile | None = None


class PlannedImage(NamedTuple):
    """One row of the plan. others: places where the image may lie, too, for when the planned one has it no more."""

    image_id: str
    uri: str
    others: tuple[str, ...] = ()


class ReadImage(NamedTuple):
    """The bytes of an image, or the reason why there are none, and how long reading took."""

    planned: PlannedImage
    data: bytes | ImageError
    started_at: datetime
    seconds: float


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
        self._max_pixels = job.max_pixels
        self._reader = UriReader(max_bytes=byte_limit(job.max_pixels))
        self._generator: Generator = job.generator.load(threads=job.threads)

    @property
    def images_at_once(self) -> int:
        """Images that the generator may work on together."""
        return self._generator.images_at_once

    def release(self) -> None:
        """Give back the memory of a GPU that is kept for the next images: another process is to work with it."""
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def load(self, planned: PlannedImage) -> LoadedImage:
        """Read and decode; safe in any thread.

        Raises OSError when the store or the machine, not the image, is at fault, and MemoryError.
        """
        return self.unpack(self.read(planned))

    def read(self, planned: PlannedImage) -> ReadImage:
        """The bytes of an image, or why there are none. Raises OSError when that is not the image's fault."""
        started_at, start = datetime.now(UTC), time.perf_counter()
        data: bytes | ImageError
        try:
            data = self._read(planned)
        except ImageError as error:
            data = error
        return ReadImage(planned, data, started_at, time.perf_counter() - start)

    def can_read(self, planned: PlannedImage) -> bool:
        """Whether access to the image is granted right now. Raises OSError as `read`."""
        data = self.read(planned).data
        return not (isinstance(data, ImageError) and data.kind == REFUSED)

    def unpack(self, image: ReadImage) -> LoadedImage:
        """Decode what was read. Raises MemoryError."""
        start = time.perf_counter()
        pixels: NDArray[np.uint8] | ImageError
        try:
            if isinstance(image.data, ImageError):
                raise image.data
            pixels = decode(image.data, max_pixels=self._max_pixels)
        except ImageError as error:
            pixels = error
        return LoadedImage(image.planned, pixels, image.started_at, image.seconds, time.perf_counter() - start)

    def segment(self, loaded: LoadedImage) -> ImageResult:
        """The masks of a loaded image, or its error. Raises MemoryError, OSError."""
        return next(self.segment_many([loaded]))

    def segment_many(self, images: Iterable[LoadedImage]) -> Iterator[ImageResult]:
        """The masks of loaded images, or their errors, in order; images are taken ahead of results. Raises MemoryError,
        OSError.

        Ends this process when its GPU can no longer be used: the next one finds out which image is at fault.
        """
        begun: deque[LoadedImage] = deque()
        for answer in self._generator.attempt_many(_pixels(images, begun)):
            yield from _unreadable(begun)
            yield _answered(begun.popleft(), answer)
        yield from _unreadable(begun)

    def _read(self, planned: PlannedImage) -> bytes:
        """The bytes of an image from the first of its places that has them, else why the planned one has not."""
        try:
            return self._read_at(planned.uri, planned.image_id)
        except (ImageError, OSError):
            for uri in planned.others:
                with suppress(ImageError, OSError):
                    return self._read_at(uri, planned.image_id)
            raise

    def _read_at(self, uri: str, image_id: str) -> bytes:
        """The bytes of a file, which must be those that the plan lists."""
        never_read = image_id == unreadable_image_id(uri)
        try:
            data = self._reader.read(uri)
        except TooLargeError as error:
            raise ImageError("TooManyBytes", str(error)) from error
        except OSError as error:
            if is_of_the_machine(error):
                raise
            revoked = isinstance(error, PermissionError) and uri.startswith(S3_SCHEME) and not never_read
            raise ImageError(REFUSED if revoked else UNREADABLE, f"{error.strerror or error}") from error
        if never_read:
            raise ImageError(UNREADABLE, "could not be read when it was ingested; the same command notes it anew")
        if image_id != id_of_bytes(data):
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

    begun = 0.0

    def restart() -> None:
        nonlocal begun
        now = time.monotonic()
        if begun and now - begun < seconds / RESTARTS_PER_LIMIT:
            return  # a new clock is a new thread, which thousands of quick images need not pay for
        begun = now
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)

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


def _pixels(images: Iterable[LoadedImage], begun: deque[LoadedImage]) -> Iterator[NDArray[np.uint8]]:
    """The pixels of the images that have some; all images go into `begun`."""
    for loaded in images:
        begun.append(loaded)
        if not isinstance(loaded.pixels, ImageError):
            yield loaded.pixels


def _unreadable(begun: deque[LoadedImage]) -> Iterator[ImageResult]:
    """The results of the images at the head of the queue that have no pixels."""
    while begun and isinstance(error := begun[0].pixels, ImageError):
        yield _failed(begun.popleft(), error.kind, str(error))


def _answered(loaded: LoadedImage, answer: Generation | Exception) -> ImageResult:
    """The result of an image that the generator answered. Raises MemoryError, and OSError, as no image is a file to a
    generator: what it reads and writes are caches of compilers."""
    if isinstance(answer, Generation):
        return _result(loaded, Status.OK, generation=answer)
    if isinstance(answer, OSError):
        raise answer
    if _lacks_memory(answer):
        raise MemoryError(str(answer)) from answer
    if _lost_the_device(answer):
        print(f"the GPU cannot be used any more: {one_line(answer)}", file=sys.__stderr__, flush=True)
        os._exit(LOST_DEVICE)
    return _failed(loaded, type(answer).__name__, str(answer))


def _lost_the_device(error: Exception) -> bool:
    """Whether every later call to the GPU fails too, as after an illegal access; not so when its memory is short."""
    import torch

    return isinstance(error, torch.AcceleratorError)


def _lacks_memory(error: Exception) -> bool:
    """Whether an allocation failed on the CPU; torch says so in words only."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error)


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
