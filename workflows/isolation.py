"""Images one by one in a child process, so that the one that kills its process is known by name."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime
from multiprocessing.connection import Connection

from workflows.convert import ImageResult
from workflows.image_worker import ImageWorker, PlannedImage, ShardJob, crashed, time_limit

_READY = "ready"


class IsolatedWorker:
    """Runs an ImageWorker in a child process and starts a new child after a death.

    The pipe between the two is the in-flight marker: when it breaks, the image that was sent last is at fault.
    """

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._start()

    def work(self, planned: PlannedImage) -> ImageResult:
        """The result of an image, `crashed` if it ended the child. Raises what stops the run, such as StoreError."""
        started_at = datetime.now(UTC)
        try:
            self._pipe.send(planned)
            answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            message = _cause(self._process.exitcode, self._job.image_timeout)
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
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._job, theirs), daemon=True)
        self._process.start()
        theirs.close()
        if self._pipe.recv() != _READY:
            raise AssertionError("unreachable: a child is ready or breaks the pipe")


def _serve(job: ShardJob, pipe: Connection) -> None:
    """The child: answer every image with its result until the parent closes the pipe or is gone."""
    worker = ImageWorker(job)
    pipe.send(_READY)
    while True:
        try:
            planned = pipe.recv()
        except EOFError:
            return
        with time_limit(job.image_timeout):
            answer = _answer(worker, planned)
        pipe.send(answer)


def _answer(worker: ImageWorker, planned: PlannedImage) -> ImageResult | OSError:
    try:
        return worker.segment(worker.load(planned))
    except OSError as error:  # the store is at fault: the parent decides
        return error


def _cause(exit_code: int | None, limit: float) -> str:
    if exit_code is not None and exit_code < 0:
        return f"the image ended its process by signal {-exit_code}"
    return f"the image ended its process with status {exit_code}, or took longer than {limit:g} s"
