"""Who annotates a round: people at the app, for whom the engine waits, or simulated ones, who write the same rows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.annotators import Drawn, prominence, work_through
from sam_core.masks import rle
from sam_core.metrics.iou import iou_matrix
from schemas.layout import events_key
from schemas.tables import Stage
from workflows.annotate.contract import Event, Save, SavedMask
from workflows.annotate.journal import Journal, Task
from workflows.rounds.config import SimulationSettings
from workflows.rounds.outcomes import Annotated
from workflows.rounds.pictures import Desk, Truth
from workflows.storage import Store

SIMULATED = "simulated"
Masks = NDArray[np.bool_]
_DRAWN_ALREADY = 0.5  # IoU from which an object counts as drawn
_EVENTS_PER_PART = 1_000_000
_PROPOSED = "SELECT mask_id, rle, height, width FROM masks WHERE run_id = ? AND image_id = ? ORDER BY mask_id"
_FINISHED = "SELECT DISTINCT image_id FROM events WHERE round = ? AND stage = ? AND action = 'finish'"
_TOLD = """
WITH mine AS (FROM annotation_revisions WHERE round = $round AND stage = $stage),
finished AS (SELECT DISTINCT image_id FROM events WHERE round = $round AND stage = $stage AND action = 'finish')
SELECT
    (SELECT count(*) FROM finished) AS images,
    (SELECT count(*) FROM annotations SEMI JOIN finished USING (image_id) WHERE stage <> 'audit') AS masks,
    count(*) FILTER (revision = 1 AND source_mask_id IS NOT NULL AND NOT deleted) AS kept,
    count(*) FILTER (revision = 1 AND source_mask_id IS NOT NULL AND deleted) AS deleted,
    count(DISTINCT mask_id) FILTER (clicks > 0 OR brushed > 0) AS worked_on,
    coalesce(sum(clicks), 0)::BIGINT AS clicks,
    coalesce(sum(seconds) FILTER (clicks > 0 OR brushed > 0), 0)::DOUBLE AS drawing_seconds,
    coalesce(sum(seconds), 0)::DOUBLE AS seconds
FROM mine
"""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the annotators of a round are given. run_id: of prefilled masks, None in the assisted-manual stage."""

    number: int
    stage: Stage
    queue: tuple[str, ...]
    run_id: str | None
    begun: datetime


def unfinished(connection: duckdb.DuckDBPyConnection, work: Assignment) -> int:
    """How many images of the queue nobody has finished."""
    done = {row[0] for row in connection.execute(_FINISHED, [work.number, str(work.stage)]).fetchall()}
    return sum(image not in done for image in work.queue)


def told(connection: duckdb.DuckDBPyConnection, work: Assignment) -> Annotated:
    """What was done in a round, out of the annotation tables."""
    answer = connection.execute(_TOLD, {"round": work.number, "stage": str(work.stage)})
    names = [column[0] for column in answer.description]
    return Annotated(**dict(zip(names, answer.fetchone(), strict=True)))


def invitation(dataset: str, model_path: str, work: Assignment) -> str:
    """The command that lets people do the work."""
    images = f"SELECT image_id FROM round_queue WHERE round = {work.number} ORDER BY place"
    words = ["sam-engine", "annotate", dataset, "--stage", work.stage.replace("_", "-"), "--model", model_path]
    words += ["--round", str(work.number), "--images", images]
    return shlex.join(words + (["--run", work.run_id] if work.run_id else []))


def simulate(
    store: Store,
    desk: Desk,
    connection: duckdb.DuckDBPyConnection,
    truth: Truth,
    settings: SimulationSettings,
    work: Assignment,
) -> None:
    """Annotate every image of the queue as a person would, one save for each; those that are saved are passed over.

    Times are the round's beginning plus the working time so far, so doing an image again writes the same bytes.
    """
    journal = Journal(store, Task(work.stage, work.number, desk.model.model_id), desk.sizes)
    session = f"{SIMULATED}-round-{work.number}"
    for place, image_id in enumerate(work.queue):
        part = place + 1
        if store.exists(events_key(session, part)):
            continue
        # What this very save left behind before it was killed does not count as standing.
        standing = [_decoded(row) for row in journal.masks_of(image_id) if row["session"] != session]
        proposed = _proposed(connection, work, image_id)
        begun = work.begun + place * timedelta(seconds=2 * settings.seconds_per_image)
        sitting = _Sitting(desk, truth, settings, image_id, begun, work.number)
        journal.save(session, part, sitting.save(standing, proposed, first=place * _EVENTS_PER_PART + 1))


@dataclass(frozen=True, slots=True)
class Proposal:
    """A prefilled mask, bool [H, W]."""

    mask_id: str
    mask: Masks


@dataclass(slots=True)
class _Sitting:
    """A simulated person in front of one image."""

    desk: Desk
    truth: Truth
    settings: SimulationSettings
    image_id: str
    begun: datetime
    number: int

    def save(self, standing: Sequence[Masks], proposed: Sequence[Proposal], *, first: int) -> Save:
        """Review what is proposed, then draw what is missing while there is time."""
        objects = self.truth.of(self.image_id).masks
        objects = objects[_unmatched(objects, standing, _DRAWN_ALREADY)]
        kept, objects = _reviewed(objects, proposed, self.settings.keep_iou)
        objects = objects[prominence(objects)]
        review = self.settings.costs.review * len(proposed)
        left = max(0.0, self.settings.seconds_per_image - review)
        drawn = work_through(
            self.desk.sam,
            self.desk.embedding(self.image_id),
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
                rle=rle.encode(proposal.mask).decode(),
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
                rle=rle.encode(drawn.masks[index]).decode(),
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


def _proposed(connection: duckdb.DuckDBPyConnection, work: Assignment, image_id: str) -> list[Proposal]:
    if work.run_id is None:
        return []
    rows = connection.execute(_PROPOSED, [work.run_id, image_id]).fetchall()
    return [Proposal(mask_id, rle.decode(counts, (height, width))) for mask_id, counts, height, width in rows]


def _reviewed(objects: Masks, proposed: Sequence[Proposal], keep_iou: float) -> tuple[list[bool], Masks]:
    """Which proposals a person keeps, best fit first and one for each object, and the objects still missing."""
    kept = [False] * len(proposed)
    if not proposed or not len(objects):
        return kept, objects
    overlap = _overlaps(objects, [proposal.mask for proposal in proposed])
    missing = np.ones(len(objects), np.bool_)
    for flat in np.argsort(-overlap, axis=None, kind="stable"):
        which, number = np.unravel_index(flat, overlap.shape)
        if overlap[which, number] < keep_iou:
            break
        if missing[which] and not kept[number]:
            missing[which], kept[number] = False, True
    return kept, objects[missing]


def _unmatched(objects: Masks, others: Sequence[Masks], iou: float) -> NDArray[np.bool_]:
    """Objects [N] that none of the other masks covers with at least this IoU."""
    if not len(objects) or not others:
        return np.ones(len(objects), np.bool_)
    return np.asarray(_overlaps(objects, others).max(1) < iou)


def _overlaps(objects: Masks, others: Sequence[Masks]) -> NDArray[np.float64]:
    return np.asarray(iou_matrix(torch.from_numpy(objects), torch.from_numpy(np.stack(others))).numpy())


def _decoded(row: dict[str, object]) -> Masks:
    counts, height, width = row["rle"], row["height"], row["width"]
    assert isinstance(counts, bytes) and isinstance(height, int) and isinstance(width, int)  # noqa: PT018
    return rle.decode(counts, (height, width))
