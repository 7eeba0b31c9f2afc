"""What an evaluation writes: its plan with the truth, the rows of its shards, and the figures.

    evaluation=<id>/evaluation.json                    what is measured, settled once
    evaluation=<id>/plan.parquet                       one row per image: where it lies, its true masks, its shard
    evaluation=<id>/rows/shard-00000012.parquet        what a task measured, a schema per task
    evaluation=<id>/images/shard-00000012.parquet      how each image ended; written last, it commits the shard
    evaluation=<id>/figures.parquet                    the table, with the paper's figures beside ours

The names are fixed, so a shard that is done again writes what it wrote before; resuming is listing `images`.
"""

import re
from collections.abc import Iterable

import pyarrow as pa

from schemas.layout import checked_name

_SHARD = re.compile(r"evaluation=[^/]+/images/shard-(\d{8})\.parquet")

ANNOTATION = pa.struct(
    [
        pa.field("id", pa.int64()),  # as the source numbers it, else its place in the image
        pa.field("rle", pa.binary()),  # COCO compressed counts
        pa.field("area", pa.float64()),  # px, as annotated
        pa.field("category", pa.int64()),
        pa.field("crowd", pa.bool_()),
        pa.field("group", pa.string()),  # frequency of the category, or value of a grouping column; null for none
    ]
)
BOX = pa.struct(
    [
        pa.field("category", pa.int64()),
        pa.field("score", pa.float64()),
        pa.field("xywh", pa.list_(pa.float64(), 4)),  # px
    ]
)
PLAN = pa.schema(
    [
        pa.field("set", pa.string()),  # the data set that the image belongs to
        pa.field("name", pa.string()),  # of the image, unique in its set
        pa.field("image_id", pa.int64()),  # COCO's number; null elsewhere
        pa.field("uris", pa.list_(pa.string())),  # where the picture lies; the first that is there is read
        pa.field("picture", pa.string()),  # image_id of a data set, which its bytes must give; null elsewhere
        pa.field("stamp", pa.string()),  # versions of the files that the row names, "" where nobody can tell
        pa.field("truth_uri", pa.string()),  # an SA-1B JSON, a label PNG or a BSDS .mat; null where it is in this row
        pa.field("height", pa.int32()),  # of the masks, px; null where the file says
        pa.field("width", pa.int32()),
        pa.field("annotations", pa.list_(ANNOTATION)),  # null where `truth_uri` holds the masks
        pa.field("boxes", pa.list_(BOX)),  # prompts from a detector; null for none
    ]
)
PHRASE = pa.struct(
    [
        pa.field("annotation", pa.int32()),  # place of the mask that it names among the image's annotations
        pa.field("text", pa.string()),
        pa.field("split", pa.string()),  # part of the set that it belongs to; null for none
        pa.field("other", pa.string()),  # a phrase of the set that is none of the mask's own; null for none
    ]
)
CAPTIONED_PLAN = PLAN.append(pa.field("phrases", pa.list_(PHRASE)))

IMAGES = pa.schema(
    [
        pa.field("set", pa.string()),
        pa.field("name", pa.string()),
        pa.field("rows", pa.int64()),  # of this image in the shard's rows
        pa.field("error", pa.string()),  # one line; null when it was measured
        pa.field("again", pa.bool_()),  # whether the same command tries again: the file was not there, or another one
        pa.field("seconds", pa.float64()),
    ]
)

_IMAGE = [pa.field("set", pa.string()), pa.field("name", pa.string())]
CLICK_ROWS = pa.schema(
    [
        *_IMAGE,
        pa.field("annotation", pa.int64()),
        pa.field("group", pa.string()),
        pa.field("area", pa.float64()),  # px
        pa.field("clicks", pa.list_(pa.int32())),  # numbers of clicks that the lists below stand for
        pa.field("iou", pa.list_(pa.float64())),  # of the most confident mask
        pa.field("oracle_iou", pa.list_(pa.float64())),  # of the best mask
        pa.field("box_iou", pa.float64()),
        pa.field("predicted_iou", pa.float64()),  # of the most confident mask of the first click
    ]
)
"""single-point and fairness: one row per true mask."""
EDGE_ROWS = pa.schema(
    [
        *_IMAGE,
        pa.field("person", pa.int32()),  # who stands in for the model; null for a model
        pa.field("threshold", pa.float64()),
        pa.field("matched_predicted", pa.int64()),
        pa.field("predicted", pa.int64()),
        pa.field("matched_true", pa.int64()),
        pa.field("true", pa.int64()),
    ]
)
"""edges: pixels of one image, one row per threshold."""
RECALL_ROWS = pa.schema(
    [
        *_IMAGE,
        pa.field("subset", pa.string()),  # all, small, medium, large, or a group
        pa.field("proposals", pa.int64()),
        pa.field("true", pa.int64()),
        pa.field("found", pa.list_(pa.int64())),  # at IoU .5, .55 to .95
    ]
)
"""proposals: one row per image and subset of its true masks."""
INSTANCE_ROWS = pa.schema(
    [
        *_IMAGE,
        pa.field("image_id", pa.int64()),
        pa.field("category", pa.int64()),
        pa.field("score", pa.float64()),  # the detector's
        pa.field("predicted_iou", pa.float64()),
        pa.field("area", pa.int64()),  # px
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("rle", pa.binary()),  # COCO compressed counts
        pa.field("hit", pa.list_(pa.bool_())),  # for all, small, medium, large in turn, at IoU .5, .55 to .95
        pa.field("ignored", pa.list_(pa.bool_())),  # neither right nor wrong, likewise
    ]
)
"""instances: one row per box, best of its image and category first."""
TEXT_ROWS = pa.schema(
    [
        *_IMAGE,
        pa.field("annotation", pa.int64()),
        pa.field("split", pa.string()),  # null for none
        pa.field("text", pa.string()),
        pa.field("truncated", pa.bool_()),  # whether the text was longer than CLIP reads
        pa.field("ambiguous", pa.bool_()),  # whether the click lies in another true mask, too
        pa.field("area", pa.float64()),  # px
        pa.field("way", pa.string()),  # what was asked: text, text + point, CLIP ranking, ...
        pa.field("iou", pa.float64()),
    ]
)
"""text: one row per phrase and way to a mask."""

FIGURES = pa.schema(
    [
        pa.field("task", pa.string()),
        pa.field("origin", pa.string()),  # measured, or paper
        pa.field("row", pa.string()),  # data set or group
        pa.field("figure", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("low", pa.float64()),  # bounds of the 95 % interval, null for none
        pa.field("high", pa.float64()),
        pa.field("unit", pa.string()),  # fraction, percent (of 1), points or count
    ]
)


def evaluation_key(evaluation: str) -> str:
    """What is measured, with what: JSON."""
    return f"{_root(evaluation)}/evaluation.json"


def plan_key(evaluation: str) -> str:
    """The images with their truth, and their shards."""
    return f"{_root(evaluation)}/plan.parquet"


def rows_key(evaluation: str, shard: int) -> str:
    """What was measured on the images of a shard."""
    return f"{_root(evaluation)}/rows/shard-{shard:08d}.parquet"


def images_key(evaluation: str, shard: int) -> str:
    """How the images of a shard ended."""
    return f"{_root(evaluation)}/images/shard-{shard:08d}.parquet"


def figures_key(evaluation: str) -> str:
    """The figures, ours and the paper's."""
    return f"{_root(evaluation)}/figures.parquet"


def images_prefix(evaluation: str) -> str:
    """Where the committed shards are listed."""
    return f"{_root(evaluation)}/images"


def finished_shards(keys: Iterable[str]) -> set[int]:
    """Shards whose `images_key` is among the keys."""
    return {int(match[1]) for key in keys if (match := _SHARD.fullmatch(key))}


def _root(evaluation: str) -> str:
    return f"evaluation={checked_name(evaluation, 'evaluation')}"
