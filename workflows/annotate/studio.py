"""One annotation task on one data set: which images, which proposals, how far everyone is. The server's whole state."""

from __future__ import annotations

import math
import random
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

import duckdb

from schemas.catalog import QueryError, query
from schemas.ids import content_hash
from schemas.records import DatasetRecord
from schemas.tables import Stage
from workflows.annotate import contract
from workflows.annotate.assistant import AnnotatedImage, Assistant
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.journal import Journal, PastEvent, Task
from workflows.annotate.merging import merge_saves
from workflows.annotate.queue import Queue
from workflows.models import find_model, register_model
from workflows.originals import StoredImage
from workflows.report.queries import literal
from workflows.runs import open_dataset
from workflows.sizes import tell_unread
from workflows.sql import connect, newest_run, require_run
from workflows.storage import open_store

AUDITED_IMAGES = 500
LOOKED_AT = 20
"""Images all over a task that are looked for where one is not there: if none is, it is no matter of that one."""
_IMAGES = "SELECT image_id, uris, height, width FROM images WHERE height > 0 AND width > 0 ORDER BY image_id"
_SIZES = "SELECT image_id, height, width FROM images WHERE height > 0 AND width > 0"
# The view would open the files of all shards for each image that somebody comes to.
_PROPOSALS = """
SELECT mask_id, model_id, rle, predicted_iou, stability_score, point_x, point_y FROM masks_of({image})
WHERE run_id = $run ORDER BY mask_id
"""


@dataclass(frozen=True, slots=True)
class Studio:
    """What the endpoints work on."""

    config: AnnotateConfig
    dataset: str
    task: contract.Task
    images: dict[str, AnnotatedImage]
    connection: duckdb.DuckDBPyConnection
    assistant: Assistant
    journal: Journal
    queue: Queue

    @property
    def task_key(self) -> str:
        """What a client names the task by."""
        return content_hash(self.task.model_dump_json().encode())[:16]

    def save(self, session: str, part: int, save: contract.Save) -> None:
        """Keep a save, then let its events move the queue, if it is theirs. Raises ValueError, ConflictError,
        ElsewhereError, OSError."""
        if not self.journal.save(session, part, save) or not self.journal.is_of_this_task(save):
            return
        now = datetime.now(UTC)
        for event in save.events:
            if event.image_id:
                note, moment = str(event.details.get("note", "")), min(_aware(event.happened_at), now)
                self.queue.note(PastEvent(event.image_id, event.action, save.annotator, moment, note))

    def item(self, image_id: str) -> contract.QueueItem:
        """An image as the queue shows it."""
        image, standing = self.images[image_id], self.queue.standing(image_id, datetime.now(UTC))
        return contract.QueueItem(
            image_id=image_id,
            name=image.stored.uri.rpartition("/")[2],
            height=image.height,
            width=image.width,
            status=standing.status,
            annotator=standing.person,
            held=standing.held,
            note=standing.note,
            masks=self.journal.count(image_id),
        )

    def masks(self, image_id: str) -> list[contract.ShownMask]:
        """Human masks of an image that stand, then what the run proposes and nobody has touched."""
        decided = self.journal.decided(image_id)  # looked at once: a save may come, and be known of in a half alone
        drawn = [_drawn(row) for row in decided if not row["deleted"]]
        if self.task.run_id is None:
            return drawn
        taken = {row["source_mask_id"] for row in decided}
        sql = _PROPOSALS.format(image=literal(image_id))
        rows = self.connection.cursor().execute(sql, {"run": self.task.run_id}).fetchall()
        return drawn + [_proposed(row) for row in rows if row[0] not in taken]


def open_studio(config: AnnotateConfig) -> Studio:
    """Raises ValueError (one line) when there is no data set, no image, no such run, or the SQL is wrong."""
    store, model = open_store(config.dataset), find_model(config.model)
    merge_saves(store)
    connection = connect(config.dataset)
    record = open_dataset(store)
    tell_unread(connection)
    images = _images(config, connection)
    task = _task(config, connection, record, model.model_id)
    register_model(store, model, datetime.now(UTC))
    some = [image.stored for image in islice(images.values(), 0, None, max(1, len(images) // LOOKED_AT))]
    assistant = Assistant(store, model, some, threads=config.threads, max_pixels=config.max_pixels, clip=config.clip)
    sizes = {image: (height, width) for image, height, width in connection.execute(_SIZES).fetchall()}
    journal = Journal(store, Task(config.table_stage, task.round, task.model_id, task.dataset), sizes)
    queue = Queue(images, lease_seconds=config.lease_seconds)
    queue.replay(journal.past_events())
    return Studio(config, record.name, task, images, connection, assistant, journal, queue)


def _task(
    config: AnnotateConfig, connection: duckdb.DuckDBPyConnection, record: DatasetRecord, model_id: str
) -> contract.Task:
    run_id = None if config.table_stage == Stage.ASSISTED_MANUAL else _run(config, connection)
    fields = {"stage": config.table_stage, "round": config.round, "run_id": run_id, "model_id": model_id}
    return contract.Task.model_validate({"dataset": f"{record.name}, begun {record.created_at.isoformat()}"} | fields)


def _images(config: AnnotateConfig, connection: duckdb.DuckDBPyConnection) -> dict[str, AnnotatedImage]:
    """The images of the task in order; of those that are too large it is said how many there are."""
    rows = connection.execute(_IMAGES).fetchall()
    known = {image: AnnotatedImage(StoredImage(image, tuple(uris)), h, w) for image, uris, h, w in rows}
    meant = _wanted(config, connection, list(known))
    wanted = [image for image in meant if math.prod(known[image].size) <= config.max_pixels]
    if larger := len(meant) - len(wanted):
        print(f"left out: {larger:,} images of more than --max-pixels {config.max_pixels:,}", file=sys.stderr)
    size = config.sample or (AUDITED_IMAGES if config.table_stage == Stage.AUDIT else None)
    if size is not None and size < len(wanted):
        wanted = random.Random(config.seed).sample(sorted(wanted), size)
    if not wanted:
        raise ValueError(f"{config.dataset} has no image to annotate: `sam-engine ingest` notes images in a data set")
    return {image: known[image] for image in wanted}


def _wanted(config: AnnotateConfig, connection: duckdb.DuckDBPyConnection, known: list[str]) -> list[str]:
    if config.images is None:
        return known
    answer = query(connection, config.images)
    if "image_id" not in answer.column_names:
        raise QueryError(f"--images returns {', '.join(answer.column_names)}; it must return image_id")
    here = set(known)
    wanted = [image for image in dict.fromkeys(answer["image_id"].to_pylist()) if image in here]
    if here and not wanted:
        raise QueryError(f"--images returns {len(answer):,} rows, and no image of {config.dataset} that can be shown")
    return wanted


def _run(config: AnnotateConfig, connection: duckdb.DuckDBPyConnection) -> str:
    """The run whose masks are proposed. Raises ValueError when there is none."""
    if config.run is not None:
        return require_run(connection, config.dataset, config.run)
    if newest := newest_run(connection):
        return newest
    raise ValueError(f"{config.dataset} has no masks to start from: `sam-engine generate` makes some")


def _drawn(row: dict[str, object]) -> contract.ShownMask:
    point = None if row["point_x"] is None else (row["point_x"], row["point_y"])
    rle = row["rle"]
    assert isinstance(rle, bytes)
    kept = {name: row[name] for name in ("mask_id", "revision", "annotator", "source_mask_id", "model_id")}
    scores = {name: row[name] for name in ("predicted_iou", "stability_score")}
    return contract.ShownMask.model_validate(kept | scores | {"rle": rle.decode(), "point": point})


def _proposed(row: tuple[str, str, bytes, float, float, float, float]) -> contract.ShownMask:
    mask_id, model_id, rle, iou, stability, x, y = row
    return contract.ShownMask(
        mask_id=mask_id,
        revision=0,
        annotator=None,
        source_mask_id=mask_id,
        model_id=model_id,
        rle=rle.decode(),
        predicted_iou=iou,
        stability_score=stability,
        point=(x, y),
    )


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
