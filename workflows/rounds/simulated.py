"""Simulated annotators: they work through a round's queue as people at the app would, and write the same rows.

Every image is worked on by itself, by whichever worker is free: what is drawn follows from the image, its true masks
and the round alone. Times are the round's beginning plus the working time so far, so doing an image again writes the
same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.annotators import Drawn, prominence, work_through
from sam_core.masks.packed import PackedMasks
from sam_core.metrics.iou import iou_matrix
from schemas.layout import events_key
from workflows.annotate.contract import Event, Save, SavedMask
from workflows.annotate.journal import Journal, Task
from workflows.failures import one_line
from workflows.models import Model
from workflows.rounds.config import SimulationSettings
from workflows.rounds.people import Assignment, unfinished
from workflows.rounds.pictures import Desk, Truth
from workflows.sql import connect
from workflows.storage import Store, open_store

SIMULATED = "simulated"
_DRAWN_ALREADY = 0.5  # IoU from which an object counts as drawn
_EVENTS_PER_PART = 1_000_000
_PROPOSED = """
WITH decided AS (
    FROM annotation_revisions WHERE image_id = $image AND round = $round AND stage = $stage AND session <> $session
)
SELECT mask_id, rle FROM masks
ANTI JOIN decided ON decided.source_mask_id = masks.mask_id
WHERE masks.run_id = $run AND masks.image_id = $image ORDER BY mask_id
"""
_SIZES = "SELECT image_id, bytes FROM images WHERE list_contains(?::TEXT[], image_id)"


@dataclass(frozen=True, slots=True)
class SimulationJob:
    """What every worker is told. root: of the data set."""

    root: str
    model: Model
    settings: SimulationSettings
    work: Assignment
    threads: int

    @property
    def session(self) -> str:
        """The session that the saves of this round belong to."""
        return f"{SIMULATED}-round-{self.work.number}"


def left_to_do(
    job: SimulationJob, store: Store, connection: duckdb.DuckDBPyConnection, truth: Truth
) -> list[dict[str, Any]]:
    """Images of the queue that nobody has finished or skipped, and that are not saved: `place` there, `image_id`,
    and the `row` of their true masks.

    Raises ValueError for an image that the true masks say nothing of.
    """
    left = unfinished(connection, job.work)
    queue = [(place, image) for place, image in enumerate(job.work.queue) if image in left]
    todo = [(place, image) for place, image in queue if not _is_saved(job, store, place)]
    rows = true_rows([image for _, image in todo], connection, truth)
    return [{"place": place, "image_id": image, "row": rows[image]} for place, image in todo]


def true_rows(images: Sequence[str], connection: duckdb.DuckDBPyConnection, truth: Truth) -> dict[str, int]:
    """The row of their true masks for images of the data set. Raises ValueError for one that they say nothing of."""
    rows = truth.find(dict(connection.execute(_SIZES, [list(images)]).fetchall()))
    if missing := [image for image in images if image not in rows]:
        raise ValueError(f"{truth.name} has no true masks of image {missing[0]}, which is to be annotated")
    return rows


def simulate_on_ray(job: SimulationJob, rows: list[dict[str, Any]]) -> None:
    """Annotate the images with as many workers as the machine or cluster holds. Raises WorkerError."""
    from workflows.ray_session import choose_pool, map_actors, start_ray

    start_ray()
    pool = choose_pool(workers=None, threads=job.threads, on_gpu=False)
    for _ in map_actors(SimulatedAnnotator, job, rows, pool):
        pass


class SimulatedAnnotator:
    """Annotates one image after another; the model is loaded once."""

    def __init__(self, job: SimulationJob) -> None:
        torch.set_num_threads(job.threads)
        self._job, store = job, open_store(job.root)
        self._connection = connect(job.root)
        self._desk = Desk(store, job.model, self._connection)
        self._truth = Truth(job.settings.truth, empty=True)
        self._journal = Journal(store, Task(job.work.stage, job.work.number, job.model.model_id), self._desk.sizes)

    def __call__(self, row: dict[str, Any]) -> dict[str, object]:
        """A row of work: a row of `left_to_do` in, the image out, or a `failure`."""
        try:
            self.annotate(**row)
        except (OSError, ValueError) as error:
            return {"failure": one_line(error)}
        return {"image_id": row["image_id"]}

    def annotate(self, place: int, image_id: str, row: int) -> None:
        """Annotate an image and save it. Raises ValueError or OSError, one line."""
        job, settings = self._job, self._job.settings
        # What this very save left behind before it was killed does not count as standing.
        found = [other for other in self._journal.masks_of(image_id) if other["session"] != job.session]
        proposed = _proposed(self._connection, job, image_id)
        begun = job.work.begun + place * timedelta(seconds=2 * settings.seconds_per_image)
        sitting = _Sitting(self._desk, self._truth.read(row).masks, settings, image_id, begun, job.work.number)
        standing = [cast(bytes, other["rle"]) for other in found]
        save = sitting.save(standing, proposed, first=place * _EVENTS_PER_PART + 1)
        self._journal.save(job.session, _part(place), save)


def _is_saved(job: SimulationJob, store: Store, place: int) -> bool:
    return store.exists(events_key(job.session, _part(place)))


def _part(place: int) -> int:
    """An image's part of the session."""
    return place + 1


@dataclass(frozen=True, slots=True)
class Proposal:
    """A prefilled mask: COCO compressed counts."""

    mask_id: str
    rle: bytes


@dataclass(frozen=True, slots=True)
class _Sitting:
    """A simulated person in front of one image. objects: its true masks."""

    desk: Desk
    objects: PackedMasks
    settings: SimulationSettings
    image_id: str
    begun: datetime
    number: int

    def save(self, standing: Sequence[bytes], proposed: Sequence[Proposal], *, first: int) -> Save:
        """Review what is proposed, then draw what is missing while there is time."""
        missing = np.flatnonzero(_unmatched(self.objects, standing, _DRAWN_ALREADY))
        kept, objects = _reviewed(self.objects.at(missing), proposed, self.settings.keep_iou)
        objects = objects.at(prominence(objects))
        review = self.settings.costs.review * len(proposed)
        left = max(0.0, self.settings.seconds_per_image - review)
        drawn = work_through(
            self.desk.sam,
            partial(self.desk.embedding, self.image_id),
            objects,
            self.settings.costs,
            seconds=left,
            habits=self.settings.habits,
        )
        masks = [*self._reviewed_rows(proposed, kept), *self._drawn_rows(drawn, review)]
        return Save(annotator=SIMULATED, masks=masks, events=list(self._events(masks, first)))

    def _reviewed_rows(self, proposed: Sequence[Proposal], kept: Sequence[bool]) -> Iterator[SavedMask]:
        for index, (proposal, good) in enumerate(zip(proposed, kept, strict=True)):
            yield SavedMask(
                mask_id=self._name("p", index),
                revision=1,
                deleted=not good,
                image_id=self.image_id,
                source_mask_id=proposal.mask_id,
                rle=proposal.rle.decode(),
                model_id=self.desk.model.model_id,
                seconds=self.settings.costs.review,
                created_at=self.begun + timedelta(seconds=self.settings.costs.review * (index + 1)),
            )

    def _drawn_rows(self, drawn: Drawn, spent: float) -> Iterator[SavedMask]:
        seconds = self.settings.costs.drawing(drawn.clicks, drawn.brushed)
        ends = spent + np.cumsum(seconds)
        for index in range(len(drawn)):
            yield SavedMask(
                mask_id=self._name("d", index),
                revision=1,
                image_id=self.image_id,
                rle=drawn.rle[index].decode(),
                model_id=self.desk.model.model_id,
                predicted_iou=float(drawn.predicted_iou[index]),
                point=(float(drawn.points[index, 0]) + 0.5, float(drawn.points[index, 1]) + 0.5),
                clicks=int(drawn.clicks[index]),
                brushed=int(drawn.brushed[index]),
                seconds=float(seconds[index]),
                created_at=self.begun + timedelta(seconds=float(ends[index])),
            )

    def _events(self, masks: Sequence[SavedMask], first: int) -> Iterator[Event]:
        """What the app would have noted, and `keep` where it notes nothing because a proposal stays as it is."""
        sequence, moment = first, self.begun
        yield Event(sequence=sequence, image_id=self.image_id, action="open", happened_at=moment)
        for mask in masks:
            actions = _actions(mask)
            for action in actions:
                sequence, moment = sequence + 1, moment + timedelta(seconds=mask.seconds / len(actions))
                yield Event(
                    sequence=sequence,
                    image_id=self.image_id,
                    mask_id=mask.mask_id,
                    action=action,
                    active=mask.seconds / len(actions),
                    happened_at=moment,
                )
        yield Event(sequence=sequence + 1, image_id=self.image_id, action="finish", happened_at=moment)

    def _name(self, kind: str, index: int) -> str:
        return f"round-{self.number}-{self.image_id}-{kind}{index:04d}"


def _actions(mask: SavedMask) -> list[str]:
    if mask.source_mask_id:
        return ["delete_mask" if mask.deleted else "keep"]
    return ["click"] * mask.clicks + (["brush"] if mask.brushed else []) + ["save_mask"]


def _proposed(connection: duckdb.DuckDBPyConnection, job: SimulationJob, image_id: str) -> list[Proposal]:
    """What is prefilled on an image, and no person has accepted, changed or deleted."""
    work = job.work
    if work.run_id is None:
        return []
    asked = {"run": work.run_id, "image": image_id, "round": work.number, "stage": str(work.stage)}
    rows = connection.execute(_PROPOSED, asked | {"session": job.session}).fetchall()
    return [Proposal(mask_id, counts) for mask_id, counts in rows]


def _reviewed(objects: PackedMasks, proposed: Sequence[Proposal], keep_iou: float) -> tuple[list[bool], PackedMasks]:
    """Which proposals a person keeps, best fit first and one for each object, and the objects still missing."""
    kept = [False] * len(proposed)
    if not proposed or not len(objects):
        return kept, objects
    overlap = iou_matrix(objects.rles, [proposal.rle for proposal in proposed], objects.size)
    missing = np.ones(len(objects), np.bool_)
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        which, number = np.unravel_index(flat, overlap.shape)
        if overlap[which, number] < keep_iou:
            break
        if missing[which] and not kept[number]:
            missing[which], kept[number] = False, True
    return kept, objects.at(np.flatnonzero(missing))


def _unmatched(objects: PackedMasks, others: Sequence[bytes], iou: float) -> NDArray[np.bool_]:
    """Objects, bool [N], that none of the other masks covers with at least this IoU."""
    if not len(objects) or not others:
        return np.ones(len(objects), np.bool_)
    return np.asarray(iou_matrix(objects.rles, others, objects.size).max(1) < iou)
