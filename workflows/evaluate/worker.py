"""One shard of an evaluation, from its rows of the plan to its committed files; in a Ray actor or without one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.evaluation import IMAGES, images_key, plan_key, rows_key
from schemas.parquet import from_plain_parquet, to_plain_parquet
from workflows.evaluate.task import Bench, Task
from workflows.failures import is_of_the_machine, one_line
from workflows.images import UNREADABLE, ImageError
from workflows.models import Model
from workflows.storage import open_store
from workflows.text.clips import ClipSource

_MAY_PASS = (UNREADABLE, "Changed", "TooManyBytes", "TooManyPixels")
"""Kinds of ImageError after which the right file may lie there, or a higher limit be given, the next time."""


@dataclass(frozen=True, slots=True)
class Helpers:
    """What a task wants beside its model: a CLIP to read text, and another model to compare with."""

    clip: ClipSource | None = None
    rival: Model | None = None

    def hashes(self) -> dict[str, str]:
        """What they add to an evaluation's identity."""
        named = {"clip_sha256": self.clip, "rival_sha256": self.rival}
        return {name: helper.sha256 for name, helper in named.items() if helper}


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """What every worker is told. model: None for a task without one."""

    root: str
    evaluation: str
    task: Task
    model: Model | None
    device: str
    threads: int
    max_pixels: int
    helpers: Helpers = field(default_factory=Helpers)


class EvaluationWorker:
    """Measures one shard after another; the model is loaded once."""

    def __init__(self, job: EvaluationJob) -> None:
        self._job = job
        self._store = open_store(job.root)
        self._plan = from_plain_parquet(self._store.get(plan_key(job.evaluation)))
        self._bench = _bench(job)

    def __call__(self, row: dict[str, int]) -> dict[str, object]:
        """A row of work: the number of a shard in, how many images and errors it has out, or a `failure`."""
        try:
            return self.work(row["shard"])
        except (OSError, ValueError) as error:
            return {"failure": one_line(error)}

    def work(self, shard: int) -> dict[str, object]:
        """Measure and commit a shard. Raises OSError when a store is at fault."""
        rows, images = [], []
        for planned in self._plan.filter(pc.equal(self._plan["shard"], shard)).to_pylist():
            found, ended = self._measure(planned)
            rows += found
            images.append(ended)
        job = self._job
        table = pa.Table.from_pylist(rows, job.task.schema)
        self._store.put(rows_key(job.evaluation, shard), to_plain_parquet(table))
        self._store.put(images_key(job.evaluation, shard), to_plain_parquet(pa.Table.from_pylist(images, IMAGES)))
        return {"images": len(images), "masks": len(rows), "errors": sum(bool(ended["error"]) for ended in images)}

    def _measure(self, planned: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Rows of an image, and how it ended. An image at fault is an error; a store or machine at fault ends it."""
        start, rows, error, again = time.perf_counter(), [], None, False
        try:
            rows = self._job.task.measure(planned, self._bench)
        except (ImageError, ValueError, OSError) as fault:
            if is_of_the_machine(fault):
                raise
            error = one_line(fault)
            again = isinstance(fault, OSError) or (isinstance(fault, ImageError) and fault.kind in _MAY_PASS)
        ended = {"set": planned["set"], "name": planned["name"], "rows": len(rows), "error": error, "again": again}
        return rows, ended | {"seconds": time.perf_counter() - start}


def _bench(job: EvaluationJob) -> Bench:
    if job.model is None:
        return Bench(None, job.max_pixels, job.threads)
    import torch

    torch.set_num_threads(job.threads)
    clip, rival = job.helpers.clip, job.helpers.rival
    return Bench(
        job.model.load(device=job.device).sam,
        job.max_pixels,
        job.threads,
        clip.load(device=job.device) if clip else None,
        rival.load(device=job.device).sam if rival else None,
    )
