"""Arrow schemas of every table, the contract between the jobs that write and the people who query.

Each field says in its metadata what it means, its `unit`, its `frame` where it is a position, and whether it is
`deterministic`: equal whenever the same run is made again from the same images on the CPU in fp32, interrupted or not,
here or in another data set. What a clock or a host decides is not; `deterministic_columns` names the rest.

Frames: "original" is the upright image (EXIF orientation applied), origin at the outer corner of its top-left pixel,
x to the right, y down, so a click in the middle of the first pixel lies at (0.5, 0.5).

Flat columns rather than structs or lists: `WHERE bbox_w > 100` prunes row groups by their statistics in every reader,
and DuckDB counted 10 million flat masks in 0.31 s, as nested lists in 0.55 s, as lists of structs in 1.41 s.
Times are timestamps in UTC without a zone, which DuckDB hands out without further packages.
"""

from datetime import UTC, datetime
from enum import StrEnum

import pyarrow as pa

FORMAT_VERSION = 1


class Stage(StrEnum):
    """Which stage of the data engine made a mask; audit corrects masks to measure their quality."""

    ASSISTED_MANUAL = "assisted_manual"
    SEMI_AUTOMATIC = "semi_automatic"
    AUTOMATIC = "automatic"
    AUDIT = "audit"


class Status(StrEnum):
    """How an image ended in a run."""

    OK = "ok"
    ERROR = "error"
    CRASHED = "crashed"
    SKIPPED = "skipped"


REJECTION_REASONS = (
    "iou",
    "stability",
    "box_at_crop_edge",
    "area",
    "nms_in_crop",
    "nms_across_crops",
    "small_region",
)
"""Why a candidate mask is not kept, in the order in which the generator asks; `rejected_*` columns of outcomes."""

STEPS = ("read", "decode_image", "encode", "decode", "select", "nms", "regions", "rle")
"""Where the time goes; `seconds_*` columns of outcomes. `decode_image` unpacks the file, `decode` the prompts."""

_TIME = pa.timestamp("us")


def _field(
    name: str,
    kind: pa.DataType,
    meaning: str,
    *,
    unit: str = "",
    frame: str = "",
    nullable: bool = False,
    deterministic: bool = True,
    encoding: str = "dictionary",
) -> pa.Field:
    """One column. `encoding` is Parquet's: dictionary for few distinct values, else PLAIN or DELTA_BYTE_ARRAY."""
    said = {"meaning": meaning, "unit": unit, "frame": frame, "encoding": encoding}
    metadata = {key: value for key, value in said.items() if value}
    metadata["deterministic"] = "true" if deterministic else "false"
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


def _schema(name: str, fields: list[pa.Field], *, sort_by: str, row_group_rows: int) -> pa.Schema:
    metadata = {
        "table": name,
        "format_version": str(FORMAT_VERSION),
        "sort_by": sort_by,
        "row_group_rows": str(row_group_rows),
    }
    return pa.schema(fields, metadata=metadata)


def _image_id() -> pa.Field:
    return _field("image_id", pa.string(), "image by content: first 128 bits of the file's SHA-256, hexadecimal")


def _pixels(name: str, meaning: str, *, nullable: bool = False) -> pa.Field:
    return _field(name, pa.int32(), meaning, unit="px", frame="original", nullable=nullable)


def _score(name: str, meaning: str, *, nullable: bool = False) -> pa.Field:
    return _field(name, pa.float32(), meaning, unit="fraction", nullable=nullable, encoding="PLAIN")


def _point(axis: str, *, nullable: bool) -> pa.Field:
    meaning = f"{axis} of the prompt that made the mask"
    return _field(f"point_{axis}", pa.float32(), meaning, unit="px", frame="original", nullable=nullable)


def _clock(name: str, meaning: str) -> pa.Field:
    return _field(name, _TIME, meaning, unit="UTC", deterministic=False)


IMAGES = _schema(
    "images",
    [
        _image_id(),
        _field("uri", pa.string(), "where the file was found", encoding="DELTA_BYTE_ARRAY"),
        _field(
            "stamp",
            pa.string(),
            "version of the file at its place (size and time, or ETag); null where the source cannot tell",
            nullable=True,
            deterministic=False,
            encoding="DELTA_BYTE_ARRAY",
        ),
        _field("content_sha256", pa.string(), "whole hash of the file; null if unreadable", nullable=True),
        _field("bytes", pa.int64(), "size of the file; null if unreadable", unit="B", nullable=True),
        _field("format", pa.string(), "jpeg, png, ...; null if not recognised", nullable=True),
        _pixels("height", "height of the upright image; null if not recognised", nullable=True),
        _pixels("width", "width of the upright image; null if not recognised", nullable=True),
        _field("exif_orientation", pa.int8(), "EXIF orientation 1 to 8 that was applied; 1 is upright", nullable=True),
        _field("licence", pa.string(), "licence as the source names it", nullable=True),
        _field("metadata", pa.string(), "whatever else the source says (captions, country...), JSON", nullable=True),
        _clock("ingested_at", "when the row was written"),
    ],
    sort_by="image_id,uri",
    row_group_rows=65_536,
)
"""One row per place where an image was found: the same bytes at two places, or ingested twice, are two rows of one
`image_id`. The `images` view shows each image once, with every place in `uris`."""

PLAN = _schema(
    "plan",
    [
        _field("shard", pa.int64(), "number of the shard, from 0 through all parts of the run's plan"),
        _image_id(),
        _field("uri", pa.string(), "where the worker reads the image", encoding="DELTA_BYTE_ARRAY"),
    ],
    sort_by="shard,image_id",
    row_group_rows=8_192,
)
"""One row per image of a run, each image once; a shard is a run of adjacent rows. Small row groups, because a worker
reads one shard out of a part of millions. Images in the order of `image_id` give shards whose ranges of `image_id` do
not overlap, so one image's masks are found by the files' statistics."""

_MASK_SHAPE = [
    _pixels("height", "height of the upright image, and of the RLE"),
    _pixels("width", "width of the upright image, and of the RLE"),
    _field("rle", pa.binary(), "COCO compressed counts, column-major over the whole image", encoding="PLAIN"),
    _pixels("bbox_x", "first column of the mask"),
    _pixels("bbox_y", "first row of the mask"),
    _pixels("bbox_w", "columns from the first to the last of the mask, both counted"),
    _pixels("bbox_h", "rows from the first to the last of the mask, both counted"),
    _field("area", pa.int64(), "pixels of the mask", unit="px", frame="original"),
]

MASKS = _schema(
    "masks",
    [
        _field("mask_id", pa.string(), "RUN.IMAGE.INDEX, best mask first", encoding="DELTA_BYTE_ARRAY"),
        _image_id(),
        _field("run_id", pa.string(), "run that made the mask"),
        _field("round", pa.int32(), "engine round; null outside of rounds", nullable=True),
        _field("stage", pa.string(), "stage of the data engine: " + ", ".join(Stage)),
        *_MASK_SHAPE,
        _score("predicted_iou", "the model's own estimate of the mask's IoU"),
        _score("stability_score", "IoU of the mask cut one logit higher and one lower"),
        _point("x", nullable=False),
        _point("y", nullable=False),
        _pixels("crop_x", "left edge of the crop that the mask was found in"),
        _pixels("crop_y", "top edge of the crop"),
        _pixels("crop_w", "width of the crop"),
        _pixels("crop_h", "height of the crop"),
        _field("model_id", pa.string(), "model that made the mask"),
        _field("annotator", pa.string(), "who made or changed the mask; null when automatic", nullable=True),
        _clock("created_at", "when the run was first started: one value for all masks of a run, resumed or not"),
    ],
    sort_by="image_id,mask_id",
    row_group_rows=65_536,
)
"""One row per mask that a run kept. `created_at` comes from the run record, so a shard written again is the same bytes;
between two data sets it differs, hence it is not deterministic."""

OUTCOMES = _schema(
    "outcomes",
    [
        _image_id(),
        _field("run_id", pa.string(), "run that worked on the image"),
        _field("shard", pa.int64(), "shard of the run's plan"),
        _field("status", pa.string(), "how it ended: " + ", ".join(Status)),
        _field("error_class", pa.string(), "kind of failure, or rule that skipped it; null when ok", nullable=True),
        _field("error_message", pa.string(), "one line; may name a place", nullable=True, deterministic=False),
        _field("n_masks", pa.int32(), "masks kept", unit="masks"),
        _field("candidates", pa.int32(), "masks considered: kept and rejected", unit="masks"),
        *(
            _field(f"rejected_{reason}", pa.int32(), f"candidates not kept: {reason}", unit="masks")
            for reason in REJECTION_REASONS
        ),
        *(
            _field(f"seconds_{step}", pa.float32(), f"time spent: {step}", unit="s", deterministic=False)
            for step in STEPS
        ),
        _field("host", pa.string(), "machine that did it", deterministic=False),
        _field("worker", pa.string(), "process that did it", deterministic=False),
        _clock("started_at", "when work on the image began"),
        _clock("finished_at", "when work on the image ended"),
    ],
    sort_by="image_id",
    row_group_rows=65_536,
)
"""One row per image of a shard, written after the shard's masks: its existence commits them."""

RELATIONS = _schema(
    "relations",
    [
        _field("mask_id", pa.string(), "mask of a run", encoding="DELTA_BYTE_ARRAY"),
        _image_id(),
        _field("run_id", pa.string(), "run that made the mask"),
        _field("parent_mask_id", pa.string(), "smallest mask that this one lies in; null at the top", nullable=True),
        _field("whole_mask_id", pa.string(), "largest mask that this one lies in; null at the top", nullable=True),
        _field("depth", pa.int32(), "masks above this one, following parents; 0 at the top", unit="masks"),
        _field("parts", pa.int32(), "masks whose parent this one is", unit="masks"),
        _score("inside", "share of the mask's pixels that lie in its parent; null at the top", nullable=True),
        _field("duplicate_of", pa.string(), "better mask that this one repeats; null if it is kept", nullable=True),
        _score("duplicate_iou", "IoU with that mask; null if it is kept", nullable=True),
        _field("containment", pa.float32(), "least share that counted as lying in", unit="fraction"),
        _field("duplicate_threshold", pa.float32(), "least IoU that counted as the same mask", unit="fraction"),
    ],
    sort_by="image_id,mask_id",
    row_group_rows=65_536,
)
"""One row per mask of a shard, made from the shard's masks by `sam-engine relate`; made again for other thresholds."""

TAGS = _schema(
    "tags",
    [
        _field("mask_id", pa.string(), "mask of a run", encoding="DELTA_BYTE_ARRAY"),
        _image_id(),
        _field("run_id", pa.string(), "run that made the mask"),
        _field("rank", pa.int32(), "from 1: the word nearest to the mask"),
        _field("word", pa.string(), "word or phrase of the list"),
        _score("score", "cosine of CLIP's embeddings of the mask's crop and of the word, from -1"),
        _score("share", "softmax of 100 times the score over all words of the list"),
        _field("clip_id", pa.string(), "CLIP that was asked: name and first digits of the hash of its weights"),
        _field("words_id", pa.string(), "hash of the list of words, the templates and how many are kept"),
    ],
    sort_by="image_id,mask_id,rank",
    row_group_rows=65_536,
)
"""One row per mask and kept word, made from a shard's masks by `sam-engine tag`; another list or CLIP replaces it."""

ANNOTATIONS = _schema(
    "annotations",
    [
        _field("mask_id", pa.string(), "object drawn by a person; stays the same when it is edited"),
        _field("revision", pa.int32(), "from 1; the highest revision of a mask_id holds"),
        _field("deleted", pa.bool_(), "true in the revision that took the mask away", encoding="PLAIN"),
        _image_id(),
        _field("session", pa.string(), "annotation session that wrote the row"),
        _field("annotator", pa.string(), "who drew the mask"),
        _field("round", pa.int32(), "engine round; null outside of rounds", nullable=True),
        _field("stage", pa.string(), "stage of the data engine: " + ", ".join(Stage)),
        _field("model_id", pa.string(), "model whose answer it began as; null when drawn by hand alone", nullable=True),
        _field("source_mask_id", pa.string(), "mask this one began as; null when drawn afresh", nullable=True),
        *_MASK_SHAPE,
        _score("predicted_iou", "the model's estimate when the mask was accepted", nullable=True),
        _score("stability_score", "as in masks", nullable=True),
        _point("x", nullable=True),
        _point("y", nullable=True),
        _field("clicks", pa.int32(), "point prompts given to this revision", unit="clicks", deterministic=False),
        _field("brushed", pa.int64(), "pixels that brush or eraser changed", unit="px", deterministic=False),
        _field("seconds", pa.float32(), "active time spent on this revision", unit="s", deterministic=False),
        _clock("created_at", "when the revision was saved"),
    ],
    sort_by="image_id,mask_id,revision",
    row_group_rows=65_536,
)
"""One row per saved state of a human mask, appended only; the `annotations` view shows the latest of each."""

EVENTS = _schema(
    "events",
    [
        _field("session", pa.string(), "annotation session"),
        _field("sequence", pa.int64(), "number of the event in its session, from 1"),
        _field("annotator", pa.string(), "who acted", deterministic=False),
        _field("image_id", pa.string(), "image on the screen; null outside of one", nullable=True),
        _field("mask_id", pa.string(), "mask acted upon; null when none", nullable=True),
        _field("round", pa.int32(), "engine round; null outside of rounds", nullable=True),
        _field("stage", pa.string(), "stage of the data engine: " + ", ".join(Stage)),
        _field("model_id", pa.string(), "model that assisted; null when none", nullable=True),
        _field("action", pa.string(), "what was done: click, box, brush, undo, accept, skip, reminder, ..."),
        _field("active", pa.float32(), "working time since the previous event", unit="s", deterministic=False),
        _field("details", pa.string(), "whatever belongs to the action, JSON", nullable=True),
        _clock("happened_at", "when it happened"),
    ],
    sort_by="session,sequence",
    row_group_rows=65_536,
)
"""One row per action of an annotator."""

SNAPSHOT = _schema(
    "snapshot",
    [
        _field("mask_id", pa.string(), "object drawn or accepted by a person"),
        _field("revision", pa.int32(), "the state of it that was the latest then"),
        _image_id(),
        _field("round", pa.int32(), "engine round that the mask comes from; null outside of rounds", nullable=True),
        _field("stage", pa.string(), "stage of the data engine: " + ", ".join(Stage)),
        _pixels("height", "height of the upright image, and of the RLE"),
        _pixels("width", "width of the upright image, and of the RLE"),
        _field("rle", pa.binary(), "COCO compressed counts, column-major over the whole image", encoding="PLAIN"),
    ],
    sort_by="image_id,mask_id",
    row_group_rows=65_536,
)
"""One row per mask that an engine round trains on: annotations go on changing, a snapshot does not."""

CROPS = _schema(
    "crops",
    [
        _field("mask_id", pa.string(), "mask of a run, or object drawn by a person", encoding="DELTA_BYTE_ARRAY"),
        _field("revision", pa.int32(), "state of a human mask; 0 for masks of runs, which do not change"),
        _image_id(),
        _field("clip_sha256", pa.string(), "CLIP that embedded the crop: whole hash of its weights"),
        _field("draw", pa.int32(), "from 0: several crops of a mask differ in what was drawn at random"),
        _field("grow", pa.float32(), "factor on the mask's box", unit="fraction", encoding="PLAIN"),
        _field("background", pa.bool_(), "false where pixels outside the mask were zero", encoding="PLAIN"),
        _field("area", pa.int64(), "pixels of the mask", unit="px", frame="original"),
        _field("vector", pa.binary(), "embedding of length 1: float16, little-endian", encoding="PLAIN"),
    ],
    sort_by="image_id,mask_id,revision,draw",
    row_group_rows=8_192,
)
"""One row per crop of a mask that a CLIP has embedded: what text prompts are trained on. A mask is embedded once by
each CLIP; its draws follow from its identifier, so that doing it again gives the same rows."""

_ALL = (IMAGES, PLAN, MASKS, OUTCOMES, RELATIONS, TAGS, ANNOTATIONS, EVENTS, SNAPSHOT, CROPS)
TABLES = {schema.metadata[b"table"].decode(): schema for schema in _ALL}
"""Every schema by its table's name."""


def as_stored(time: datetime) -> datetime:
    """A time as the tables hold it, in UTC without a zone; one without a zone is taken for UTC."""
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def deterministic_columns(schema: pa.Schema) -> list[str]:
    """Columns that must be equal when the same run is made again; what an exactly-once test compares."""
    return [field.name for field in schema if field.metadata[b"deterministic"] == b"true"]


def sort_keys(schema: pa.Schema) -> list[str]:
    """Columns by which the rows of every file of this table are ordered."""
    keys: list[str] = schema.metadata[b"sort_by"].decode().split(",")
    return keys
