"""One shard from its plan to its committed files. Works inside a Ray actor and without one."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass

import pyarrow.compute as pc

from sam_core.ahead import ahead
from schemas.layout import IN_FLIGHT_PREFIX, in_flight_key, masks_key, outcomes_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import Status
from schemas.validate import check_outcomes
from workflows.convert import ImageResult, checked, mask_table, outcome_table
from workflows.failures import one_line
from workflows.image_worker import REFUSED, ImageWorker, PlannedImage, ShardJob, time_limit
from workflows.images import UNREADABLE
from workflows.isolation import IsolatedWorker
from workflows.metrics import RunMetrics, log_event, log_failures
from workflows.originals import other_places
from workflows.plans import PlanPart, ShardTask, finished_shards, read_part
from workflows.processes import identity, is_alive_here
from workflows.runs import require_here
from workflows.storage import Store, StoreError, open_store
from workflows.stored_tables import get_table

_READERS = 4
_NOT_READ = (REFUSED, UNREADABLE)


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What a finished shard tells the driver. by_another: of another attempt, mostly of another command at this run."""

    shard: int
    images: int
    masks: int
    errors: int
    seconds: float
    by_another: bool = False


class ShardWorker:
    """Works on one shard after another; the model is loaded once.

    The masks file is written before the outcomes file, and the outcomes file is the commit. A shard whose in-flight
    marker is there from an earlier, dead attempt is worked on image by image in a child process; one that was committed
    meanwhile is left as it is.
    """

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._store = open_store(job.dataset)
        self._worker = ImageWorker(job)
        self._metrics = RunMetrics(job.run.run_id)
        self._part: PlanPart | None = None
        self._places: dict[str, tuple[str, ...]] | None = None
        self._child: IsolatedWorker | None = None

    def __call__(self, row: dict[str, object]) -> dict[str, object]:
        """A row of work: a ShardTask's fields in, a ShardSummary's out, or a `failure` that ends the run."""
        try:
            return asdict(self.work(ShardTask(**row)))  # type: ignore[arg-type]
        except (OSError, ValueError) as error:
            log_event("shard_failed", run_id=self._job.run.run_id, shard=row["shard"], error=one_line(error))  # type: ignore[arg-type]
            return {"failure": one_line(error)}

    def work(self, task: ShardTask) -> ShardSummary:
        """Make and commit the shard's masks. Raises OSError when the store fails for good, ValueError on a new plan."""
        if done := self._done_by_another(task.shard):
            return done
        start = time.perf_counter()
        log_event("shard_begun", run_id=self._job.run.run_id, shard=task.shard)
        marker = in_flight_key(self._job.run.run_id, task.shard)
        results = checked(self._job.run, self._attempt(self._images(task), marker))
        if done := self._done_by_another(task.shard):
            self._store.delete(marker)
            return done
        self._commit(task.shard, results)
        self._store.delete(marker)
        errors = sum(result.status != Status.OK for result in results)
        masks = sum(result.n_masks for result in results)
        summary = ShardSummary(task.shard, len(results), masks, errors, time.perf_counter() - start)
        self._tell(summary, results)
        return summary

    def _attempt(self, images: list[PlannedImage], marker: str) -> list[ImageResult]:
        if self._died_before(marker):
            results = self._apart(images)
        else:
            self._store.put(marker, json.dumps(identity(os.getpid())).encode())
            results = self._together_or_not_at_all(images, marker)
        self._check_access(images, results)
        return results

    def _died_before(self, marker: str) -> bool:
        """Whether an attempt at the shard ended with its process; one that still lives on this machine did not."""
        try:
            left = json.loads(self._store.get(marker))
        except FileNotFoundError:
            return False
        return not is_alive_here(left)

    def _tell(self, summary: ShardSummary, results: list[ImageResult]) -> None:
        """Whoever watches: metrics, and a line for the shard and each failure."""
        self._metrics.shard_done(results)
        log_failures(self._job.run.run_id, summary.shard, results)
        log_event("shard_done", run_id=self._job.run.run_id, **asdict(summary))

    def _images(self, task: ShardTask) -> list[PlannedImage]:
        if self._part is None or self._part.number != task.part:
            require_here(self._store)
            if self._job.seen:
                self._job.seen.require_here()
            self._part, self._places = read_part(self._store, self._job.run.run_id, task.part), None
        if self._part.sha256 != task.part_sha256:
            raise ValueError("another driver replaced a part of the plan; run the same command again")
        rows = self._part.table.slice(task.start, task.stop - task.start)
        pairs = zip(rows["image_id"].to_pylist(), rows["uri"].to_pylist(), strict=True)
        others = self._other_places() if task.moved else {}
        return [PlannedImage(image_id, uri, others.get(image_id, ())) for image_id, uri in pairs]

    def _other_places(self) -> dict[str, tuple[str, ...]]:
        """Where else the images of the part may be by now, as after a folder was moved and the command given again."""
        assert self._part is not None
        if self._places is None:
            planned = self._part.table.select(["image_id", "uri"]).to_pydict()
            self._places = other_places(self._store.root, dict(zip(planned["image_id"], planned["uri"], strict=True)))
        return self._places

    def _together_or_apart(self, images: list[PlannedImage]) -> list[ImageResult]:
        """In this process; where its memory does not suffice, one by one, so that the image that takes it is known."""
        with suppress(MemoryError):  # which is forgotten before it goes on, with the images that its frames hold
            return self._together(images)
        return self._apart(images)

    def _together(self, images: list[PlannedImage]) -> list[ImageResult]:
        """In this process; the next images are read and decoded while the model works on others."""
        self._end_child()
        results, at_once = [], self._worker.images_at_once
        with ThreadPoolExecutor(_READERS) as readers, time_limit(at_once * self._job.image_timeout) as restart:
            loaded = ahead(readers, self._worker.load, images, window=max(_READERS, at_once))
            for result in self._worker.segment_many(loaded):
                results.append(result)
                restart()
        return results

    def _together_or_not_at_all(self, images: list[PlannedImage], marker: str) -> list[ImageResult]:
        """As `_together_or_apart`, but a machine that is taken away, or fails, gives the shard back as if it had never
        been begun.

        Ray answers SIGTERM with SystemExit; no image is at fault, so no marker may stay to say so. Where a store fails,
        it stays: asking that store once more would only take longer.
        """
        try:
            return self._together_or_apart(images)
        except StoreError:
            raise
        except (SystemExit, OSError):
            self._store.delete(marker)
            raise

    def _apart(self, images: list[PlannedImage]) -> list[ImageResult]:
        """In a child process, which stays for the next shard in case that one needs it too."""
        if not self._child:
            self._worker.release()
            self._child = IsolatedWorker(self._job)
        return [self._child.work(image) for image in images]

    def _check_access(self, images: list[PlannedImage], results: list[ImageResult]) -> None:
        """Raise StoreError if images are refused and it is not them alone: a revoked right must not become rows."""
        refused = [result for result in results if result.error_class == REFUSED]
        read = [image for image, result in zip(images, results, strict=True) if result.error_class not in _NOT_READ]
        if refused and not (read and self._worker.can_read(read[-1])):
            raise StoreError(f"{refused[0].error_message} (nothing of this shard can be read; no image is blamed)")

    def _end_child(self) -> None:
        if self._child:
            self._child.close()
            self._child = None

    def _done_by_another(self, shard: int) -> ShardSummary | None:
        """What another attempt has committed, which stays: on a GPU two attempts may differ, and masks must not stand
        beside the counts of others."""
        try:
            outcomes = get_table(self._store, outcomes_key(self._job.run.run_id, shard))
        except FileNotFoundError:
            return None
        errors = pc.sum(pc.not_equal(outcomes["status"], Status.OK.value)).as_py()
        masks = pc.sum(outcomes["n_masks"]).as_py()
        summary = ShardSummary(shard, len(outcomes), masks, errors, 0.0, by_another=True)
        log_event("shard_done", run_id=self._job.run.run_id, **asdict(summary))
        return summary

    def _commit(self, shard: int, results: list[ImageResult]) -> None:
        """Write masks, then outcomes."""
        run = self._job.run
        outcomes = outcome_table(run.run_id, shard, results)
        check_outcomes(outcomes)
        self._store.put(masks_key(run.run_id, shard), to_parquet_bytes(mask_table(run, results)))
        self._store.put(outcomes_key(run.run_id, shard), to_parquet_bytes(outcomes))


def clear_markers(store: Store, run_id: str) -> None:
    """Remove what workers left that died after they committed their shard. Markers of shards that are not done are of
    another command at the run, which works on images of its own, or did until it was killed."""
    if left := [entry.key for entry in store.list(f"{IN_FLIGHT_PREFIX}run={run_id}")]:
        done = {in_flight_key(run_id, shard) for shard in finished_shards(store, run_id)}
        for key in left:
            if key in done:
                store.delete(key)
