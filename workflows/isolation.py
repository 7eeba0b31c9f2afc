"""Images one by one in a child process, so that the one that kills its process is known by name."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from workflows.convert import ImageResult
from workflows.failures import WorkerError, one_line
from workflows.image_worker import LOST_DEVICE, ImageWorker, PlannedImage, ShardJob, crashed, time_limit

_READY = "ready"
_OUT_OF_MEMORY = 77
_SHARE_OF_FREE_MEMORY = 0.5
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload([ImageWorker.__module__])
"""Every death costs a new child: forked from a process that has read the program's modules, not one that reads them."""


class IsolatedWorker:
    """Runs an ImageWorker in a child process, with a limit on its memory, and starts a new child after a death.

    The pipe between the two is the in-flight marker: when it breaks, the image that was sent last is at fault.
    """

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._start()

    def work(self, planned: PlannedImage) -> ImageResult:
        """The result of an image, `crashed` if it ended the child. Raises what stops the run, such as StoreError."""
        started_at, start = datetime.now(UTC), time.monotonic()
        try:
            self._pipe.send(planned)
            answer: ImageResult | BaseException = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            message = self._cause(time.monotonic() - start)
            self._start()
            return crashed(planned, started_at, message)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        """End the child."""
        self._pipe.close()
        self._process.join()

    def _start(self) -> None:
        """A child that is ready to work. Raises WorkerError when the child cannot become so."""
        self._pipe, theirs = _FORKING.Pipe()
        self._process = _FORKING.Process(target=_serve, args=(self._job, theirs, dict(os.environ)), daemon=True)
        self._process.start()
        theirs.close()
        try:
            answer: str = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            answer = f"a process for one image ended with status {self._process.exitcode} before it began"
        if answer != _READY:
            raise WorkerError(answer)

    def _cause(self, seconds: float) -> str:
        """Why the child ended, in words."""
        exit_code = self._process.exitcode or 0
        if exit_code == _OUT_OF_MEMORY:
            return "the image needs more memory than one image may take"
        if exit_code == LOST_DEVICE:
            return "the image made its process lose the GPU"
        if exit_code < 0:
            return f"the image ended its process by signal {-exit_code}"
        if seconds >= self._job.image_timeout:
            return f"the image took longer than {self._job.image_timeout:g} s"
        return f"the image ended its process with status {exit_code}"


def _serve(job: ShardJob, pipe: Connection, environment: dict[str, str]) -> None:
    """The child: answer every image with its result until the parent closes the pipe or is gone.

    environment: the parent's; the process that forks keeps the one it was started with.
    """
    os.environ.update(environment)
    try:
        worker = ImageWorker(job)
    except (OSError, ValueError) as error:
        pipe.send(one_line(error))
        return
    _limit_memory(job.image_memory)
    pipe.send(_READY)
    while True:
        try:
            planned = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(worker, planned, job.image_timeout))


def _answer(worker: ImageWorker, planned: PlannedImage, seconds: float) -> ImageResult | OSError:
    """The result of an image within its time, which a slow store does not eat into."""
    try:
        image = worker.read(planned)
        with time_limit(seconds):
            return worker.segment(worker.unpack(image))
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)  # what is left of this process is not to be trusted
    except OSError as error:  # the store is at fault: the parent decides
        return error


def _limit_memory(budget: int | None) -> None:
    """Let this process have `budget` bytes more than now; allocations beyond fail, before the machine runs out.

    Without a budget, half of what is free.

    Counted is private memory that can be written, not what is mapped from files or reserved, as CUDA does. Only Linux
    counts so: elsewhere there is no limit.
    """
    if sys.platform != "linux":
        return
    budget = budget or int(_SHARE_OF_FREE_MEMORY * _free_memory())
    used = 1024 * _kilobytes("/proc/self/status", "VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (used + budget, used + budget))


def _free_memory() -> int:
    """Bytes that this machine, or the container around us, can still give."""
    free = 1024 * _kilobytes("/proc/meminfo", "MemAvailable")
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, max(0, int(text) - int(used.read_text())))
    return free


def _kilobytes(file: str, name: str) -> int:
    """A figure such as `VmData:  123 kB` out of a file of the kernel."""
    lines = Path(file).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
