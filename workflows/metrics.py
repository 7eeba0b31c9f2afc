"""What workers and driver tell while they work: Prometheus metrics through Ray, and one JSON line per event.

Ray's metrics agent on every node serves the metrics, each with `ray_` before its name; `cluster/grafana.json` draws
them. Events go to the standard error of the worker, which Ray keeps in its session's logs.
"""

from __future__ import annotations

import collections
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING

from schemas.tables import Status
from workflows.convert import ImageResult, step_seconds

if TYPE_CHECKING:  # importing Ray takes seconds
    from ray.util.metrics import Counter, Gauge

COUNTERS = {
    "sam_engine_images_total": ("images done", ("run_id", "status")),
    "sam_engine_masks_total": ("masks kept", ("run_id",)),
    "sam_engine_errors_total": ("images that ended as errors, by class", ("run_id", "error_class")),
    "sam_engine_shards_total": ("shards committed", ("run_id",)),
    "sam_engine_step_seconds_total": ("time spent on images, by step, of all threads together", ("run_id", "step")),
    "sam_engine_busy_seconds_total": ("time in which the model of a worker worked", ("run_id",)),
}
GAUGES = {"sam_engine_queue_shards": ("shards that no worker has finished yet", ("run_id",))}
SECONDS_BETWEEN_SETTINGS = 5.0
"""Ray serves a gauge for 20 s after it was set, and a shard takes longer."""


class RunMetrics:
    """The metrics of one run in one process. Without Ray they go nowhere."""

    def __init__(self, run_id: str) -> None:
        self._run = {"run_id": run_id}
        self._reached = datetime.min.replace(tzinfo=UTC)
        self._queued = 0
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            from ray.util import metrics

            self._counters = {name: metrics.Counter(name, *about) for name, about in COUNTERS.items()}
            self._gauges = {name: metrics.Gauge(name, *about) for name, about in GAUGES.items()}

    def shard_done(self, results: Sequence[ImageResult]) -> None:
        """Count the images of a committed shard."""
        self._add("shards", 1)
        self._add("masks", sum(result.n_masks for result in results))
        for status, count in collections.Counter(result.status for result in results).items():
            self._add("images", count, status=str(status))
        for name, count in collections.Counter(result.error_class for result in results if result.error_class).items():
            self._add("errors", count, error_class=name)
        for step, seconds in step_seconds(results).items():
            self._add("step_seconds", seconds, step=step)
        self._add("busy_seconds", self._busy(results))

    def queue(self, shards: int) -> None:
        """Say how many shards are not finished."""
        self._queued = shards
        self._show_queue()

    @contextmanager
    def following(self) -> Iterator[None]:
        """Say again and again what was said last of the queue, so that it is there whenever somebody looks."""
        ended = Event()

        def repeat() -> None:
            while not ended.wait(SECONDS_BETWEEN_SETTINGS):
                self._show_queue()

        speaker = Thread(target=repeat, daemon=True)
        speaker.start()
        try:
            yield
        finally:
            ended.set()
            speaker.join()
            self._show_queue()

    def _show_queue(self) -> None:
        for gauge in self._gauges.values():
            gauge.set(self._queued, tags=self._run)

    def _busy(self, results: Sequence[ImageResult]) -> float:
        """Seconds in which an image that was loaded was not finished: what threads do side by side counts once."""
        seconds = 0.0
        for begun, ended in sorted((_loaded_at(each), each.finished_at) for each in results if not _is_crash(each)):
            seconds += max(0.0, (ended - max(begun, self._reached)).total_seconds())
            self._reached = max(self._reached, ended)
        return seconds

    def _add(self, name: str, amount: float, **tags: str) -> None:
        counter = self._counters.get(f"sam_engine_{name}_total")
        if counter and amount > 0:
            counter.inc(amount, tags=self._run | tags)


def _loaded_at(result: ImageResult) -> datetime:
    return result.started_at + timedelta(seconds=result.read_seconds + result.decode_seconds)


def _is_crash(result: ImageResult) -> bool:
    return result.status is Status.CRASHED  # of another process than the one that says so


def log_event(event: str, *, run_id: str, shard: int, **fields: object) -> None:
    """One JSON line on standard error: time, event, run_id, shard, host, process, and what else is said."""
    said = {"time": datetime.now(UTC).isoformat(), "event": event, "run_id": run_id, "shard": shard}
    line = said | {"host": socket.gethostname(), "process": os.getpid()} | fields
    print(json.dumps(line, default=str), file=sys.stderr, flush=True)


def log_failures(run_id: str, shard: int, results: Sequence[ImageResult]) -> None:
    """An event for each image that did not end well."""
    for result in results:
        if result.status is not Status.OK:
            log_event(
                "image_failed",
                run_id=run_id,
                shard=shard,
                image_id=result.image_id,
                status=str(result.status),
                error_class=result.error_class,
                error_message=result.error_message,
            )
