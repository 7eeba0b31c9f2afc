"""What people did, on disk before it is acknowledged: one part of a session is one save, under a name the client chose.

Each save puts its masks and its events as one atomic object each. The names come from the client, so a save that is
sent again after a lost answer or a killed server finds its objects there; nothing is lost and nothing doubled. Memory
holds only an index of where the latest state of each mask lies, rebuilt when the server starts from the objects, or
from those into which many were merged.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sam_core.ahead import ahead
from schemas.layout import (
    ANNOTATIONS_PREFIX,
    EVENTS_PREFIX,
    annotations_key,
    events_key,
)
from schemas.parquet import to_parquet_bytes
from schemas.rle import RleError, parse_runs
from schemas.tables import ANNOTATIONS, EVENTS, Stage, as_stored
from schemas.validate import check_annotations
from workflows.annotate.contract import Save, SavedMask, whole
from workflows.annotate.merging import list_saves, saved_keys
from workflows.storage import Store
from workflows.stored_tables import get_table

_READERS = 16
_INDEXED = ("image_id", "mask_id", "revision", "created_at", "session", "deleted", "stage", "round")
_TOLD = ("image_id", "annotator", "action", "details", "happened_at", "session", "sequence")
_IN_ORDER = ("happened_at", "session", "sequence")
_FILES_JOINED = 1000
_ROWS_AT_ONCE = 8192


class ConflictError(ValueError):
    """A part of a session that is there already, with other content."""


class ElsewhereError(ValueError):
    """A save that belongs to another data set, whose server will take it."""


@dataclass(frozen=True, slots=True)
class Task:
    """What annotations are made for. dataset tells data sets apart; None where nothing is sent from elsewhere."""

    stage: Stage
    round: int | None
    model_id: str
    dataset: str | None = None


@dataclass(frozen=True, slots=True)
class MaskState:
    """The latest revision of a mask, and the object that holds it.

    Two sessions may both have made a revision (one person, two tabs): the later one counts, as it does in SQL.
    """

    revision: int
    created_at: datetime
    session: str
    deleted: bool
    stage: str
    round: int | None
    key: str

    @property
    def rank(self) -> tuple[int, datetime, str]:
        """The highest of a mask's states is the latest one."""
        return self.revision, self.created_at, self.session


@dataclass(frozen=True, slots=True)
class PastEvent:
    """What the queue must know of an event."""

    image_id: str
    action: str
    annotator: str
    happened_at: datetime
    note: str


class Journal:
    """Saves, and the masks that stand. Safe to use from several threads.

    A save that says what it was made for is kept under that stage and round, whichever this server's are: it may have
    waited in a browser while the server was exchanged for that of another round.

    Args:
        task: this server's, of saves that name none.
        sizes: (height, width) px of every image that may be annotated, by image_id.
    """

    def __init__(self, store: Store, task: Task, sizes: dict[str, tuple[int, int]]) -> None:
        self._store, self._task, self._sizes = store, task, sizes
        self._lock = threading.Lock()
        self._masks: dict[str, dict[str, MaskState]] = {}
        listed = list_saves(store)
        self._told = {key for key in listed if key.startswith(EVENTS_PREFIX)}
        for key, table in self._read_all(saved_keys(store, listed), ANNOTATIONS_PREFIX, _INDEXED):
            self._index(key, table)

    def save(self, session: str, part: int, save: Save) -> bool:
        """Put one part; whether its events are news, which those of a part that is sent again are not.

        Raises ValueError when a row is unsound, ConflictError when the part holds something else, ElsewhereError when
        it is of another data set.
        """
        task = self.task_of(save)
        masks, events = self._mask_rows(session, save, task), self._event_rows(session, save, task)
        if len(masks):
            check_annotations(masks)
            self._put(annotations_key(session, part), masks)
            with self._lock:
                self._index(annotations_key(session, part), masks)
        key = events_key(session, part)
        if len(events):
            self._put(key, events)
        with self._lock:
            is_news = key not in self._told
            self._told.add(key)
        return is_news

    def task_of(self, save: Save) -> Task:
        """What a save was made for. Raises ElsewhereError."""
        if save.task is None:
            return self._task
        if save.task.dataset != self._task.dataset:
            raise ElsewhereError(f"this save is of the data set {save.task.dataset}, and not of {self._task.dataset}")
        return Task(Stage(save.task.stage), save.task.round, save.task.model_id, save.task.dataset)

    def is_of_this_task(self, save: Save) -> bool:
        """Whether a save counts for this server's stage and round."""
        task = self.task_of(save)
        return (task.stage, task.round) == (self._task.stage, self._task.round)

    def masks_of(self, image_id: str) -> list[dict[str, object]]:
        """Rows of ANNOTATIONS: the masks of an image that stand, in the order of their ids."""
        return [row for row in self.decided(image_id) if not row["deleted"]]

    def decided(self, image_id: str) -> list[dict[str, object]]:
        """Rows of ANNOTATIONS: the latest state of each mask of an image, deleted ones too, in order of their ids."""
        with self._lock:
            states = {mask: state for mask, state in self._masks.get(image_id, {}).items() if self._counts(state)}
        keys = sorted({state.key for state in states.values()})
        with ThreadPoolExecutor(_READERS) as readers:
            tables = readers.map(lambda key: get_table(self._store, key), keys)
            rows = [row for table in tables for row in _of_image(table, image_id).to_pylist()]
        latest = {(mask, *state.rank) for mask, state in states.items()}
        ranked = [(row["mask_id"], row["revision"], row["created_at"], row["session"]) for row in rows]
        found = {str(row["mask_id"]): row for row, rank in zip(rows, ranked, strict=True) if rank in latest}
        return [found[mask] for mask in sorted(found)]

    def count(self, image_id: str) -> int:
        """How many masks of an image stand."""
        with self._lock:
            return sum(self._shows(state) for state in self._masks.get(image_id, {}).values())

    def past_events(self) -> Iterator[PastEvent]:
        """Events of this stage and round that are about an image, the oldest first. Annotators leave dozens of them on
        each image, so columns are held, and an event is made of a row when it is asked for."""
        columns = (*_TOLD, "stage", "round")
        found = (self._mine(table) for _, table in self._read_all(saved_keys(self._store), EVENTS_PREFIX, columns))
        parts = [EVENTS.empty_table().select(_TOLD)]
        while some := list(islice(found, _FILES_JOINED)):  # a table for each of many small files is mostly overhead
            parts.append(pa.concat_tables(some).combine_chunks())
        told = pa.concat_tables(parts).sort_by([(name, "ascending") for name in _IN_ORDER])
        for batch in told.to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from map(_past, batch.to_pylist())

    def _mine(self, events: pa.Table) -> pa.Table:
        """Those of some events that `past_events` tells."""
        round = self._task.round
        of_round = pc.is_null(events["round"]) if round is None else pc.equal(events["round"], round)
        mine = pc.and_(pc.and_(of_round, pc.equal(events["stage"], self._task.stage)), pc.is_valid(events["image_id"]))
        return events.filter(mine).select(_TOLD)  # where a round is null it is none, and filter takes null for false

    def _shows(self, state: MaskState) -> bool:
        """Whether a mask belongs on the screen."""
        return not state.deleted and self._counts(state)

    def _counts(self, state: MaskState) -> bool:
        """Whether what was done to a mask matters here: audits measure masks of others and stay apart, and each round
        audits one run, so those of other rounds say nothing."""
        if self._task.stage == Stage.AUDIT:
            return state.stage == Stage.AUDIT and state.round == self._task.round
        return state.stage != Stage.AUDIT

    def _put(self, key: str, table: pa.Table) -> None:
        data = to_parquet_bytes(table)
        if self._store.put_if_absent(key, data) != data:
            raise ConflictError(f"{key} is there already, with other content; begin a new session")

    def _index(self, key: str, table: pa.Table) -> None:
        columns = (table[name].to_pylist() for name in _INDEXED)
        for image, mask, revision, created_at, session, deleted, stage, round in zip(*columns, strict=True):
            held = self._masks.setdefault(image, {})
            new = MaskState(revision, created_at, session, deleted, stage, round, key)
            if mask not in held or new.rank >= held[mask].rank:
                held[mask] = new

    def _read_all(self, saved: Sequence[str], prefix: str, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        keys = [key for key in saved if key.startswith(prefix)]
        read: Callable[[str], pa.Table] = lambda key: get_table(self._store, key, columns)  # noqa: E731
        with ThreadPoolExecutor(_READERS) as readers:  # files are read no faster than they are looked at
            yield from zip(keys, ahead(readers, read, keys, window=4 * _READERS), strict=True)

    def _mask_rows(self, session: str, save: Save, task: Task) -> pa.Table:
        """The masks of a save as rows of ANNOTATIONS; area and box are those of the RLE. Raises ValueError."""
        common = {"session": session, "annotator": save.annotator, "round": task.round, "stage": task.stage}
        sizes = [self._size_of(mask.image_id) for mask in save.masks]
        boxes, areas = _measure([mask.rle for mask in save.masks], sizes)
        rows = [
            _mask_row(mask, size, box, area) | common
            for mask, size, box, area in zip(save.masks, sizes, boxes.tolist(), areas.tolist(), strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=ANNOTATIONS)

    def _event_rows(self, session: str, save: Save, task: Task) -> pa.Table:
        rows = [
            {
                "session": session,
                "sequence": event.sequence,
                "annotator": save.annotator,
                "image_id": event.image_id,
                "mask_id": event.mask_id,
                "round": task.round,
                "stage": task.stage,
                "model_id": task.model_id,
                "action": event.action,
                "active": event.active,
                "details": json.dumps(event.details, sort_keys=True) if event.details else None,
                "happened_at": as_stored(event.happened_at),
            }
            for event in save.events
        ]
        return pa.Table.from_pylist(rows, schema=EVENTS)

    def _size_of(self, image_id: str) -> tuple[int, int]:
        if image_id not in self._sizes:
            raise ValueError(f"image {image_id} is not in this data set, or not a readable one")
        return self._sizes[image_id]


def _of_image(annotations: pa.Table, image_id: str) -> pa.Table:
    return annotations.filter(pc.equal(annotations["image_id"], image_id))


def _mask_row(mask: SavedMask, size: tuple[int, int], box: list[int], area: int) -> dict[str, object]:
    return {
        "mask_id": mask.mask_id,
        "revision": mask.revision,
        "deleted": mask.deleted,
        "image_id": mask.image_id,
        "model_id": mask.model_id,
        "source_mask_id": mask.source_mask_id,
        "height": size[0],
        "width": size[1],
        "rle": mask.rle.encode(),
        "bbox_x": box[0],
        "bbox_y": box[1],
        "bbox_w": box[2],
        "bbox_h": box[3],
        "area": area,
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.stability_score,
        "point_x": mask.point and mask.point[0],
        "point_y": mask.point and mask.point[1],
        "clicks": mask.clicks,
        "brushed": mask.brushed,
        "seconds": mask.seconds,
        "created_at": as_stored(mask.created_at),
    }


def _measure(rles: list[str], sizes: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes xywh [N, 4] and areas [N], px. Raises ValueError when an RLE is none of a mask of that size."""
    try:
        runs = parse_runs(pa.array([rle.encode() for rle in rles], pa.binary()))
    except RleError as error:
        raise ValueError(f"mask {error.row} of the save: its rle {error.message}") from error
    pixels = np.array([height * width for height, width in sizes], np.int64)
    if (runs.pixels != pixels).any():
        raise ValueError(f"mask {int(np.argmax(runs.pixels != pixels))} of the save: its rle does not cover its image")
    return runs.boxes(np.array([height for height, _ in sizes], np.int64)), runs.areas


def _past(row: dict[str, object]) -> PastEvent:
    details = json.loads(str(row["details"] or "{}"))
    moment = row["happened_at"]
    assert isinstance(moment, datetime)
    return PastEvent(
        str(row["image_id"]),
        str(row["action"]),
        str(row["annotator"]),
        moment.replace(tzinfo=UTC),
        whole(str(details.get("note", ""))),
    )
