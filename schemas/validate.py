"""Rules that rows must keep. Checked on whole columns before a file is written, so that no reader has to doubt them.

A broken rule is a bug of the writer or a damaged import; the message names the table, the first row that breaks the
rule, what it says, and how many rows break it too.
"""

from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.rle import Ints, RleError, measure
from schemas.tables import REJECTION_REASONS, STEPS, Stage, Status

Flags = NDArray[np.bool_]


class RowError(ValueError):
    """Rows that break a rule of their table."""


def check_images(table: pa.Table) -> None:
    """Raise RowError unless every row of an images part is sound."""
    _require_unique(table, ["image_id", "uri"])
    _require_positive(table, ["height", "width"])
    _refuse(table, _ints(table, "bytes") < 0, "has a negative size in bytes")
    orientation = _ints(table, "exif_orientation", null=1)
    _refuse(table, (orientation < 1) | (orientation > 8), "has no EXIF orientation of 1 to 8")
    other = pc.invert(pc.equal(pc.utf8_slice_codeunits(table["content_sha256"], 0, 32), table["image_id"]))
    _refuse(table, _flags(other), "does not begin its content hash")


def check_masks(table: pa.Table) -> None:
    """Raise RowError unless every mask is sound: ids unique, box, crop and point inside the image, and area and box
    those of the RLE, whose runs cover the image exactly."""
    _require_unique(table, ["mask_id"])
    _check_shapes(table)
    _require_box_inside(table, "crop", what="crop")
    _check_scores_and_points(table)


def check_annotations(table: pa.Table) -> None:
    """Raise RowError unless every saved state of a human mask is sound; the rules of masks, and revisions from 1."""
    _require_unique(table, ["mask_id", "revision"])
    _refuse(table, _ints(table, "revision") < 1, "has a revision below 1")
    _check_shapes(table)
    _check_scores_and_points(table)


def check_outcomes(table: pa.Table) -> None:
    """Raise RowError unless every outcome is sound: each image once, counts that balance, errors that say why."""
    _require_unique(table, ["image_id"])
    _require_enum(table, "status", Status)
    ends = {name: _ints(table, name) for name in ("n_masks", *(f"rejected_{reason}" for reason in REJECTION_REASONS))}
    for name, count in ends.items():
        _refuse(table, count < 0, f"has a negative {name}")
    balanced = _ints(table, "candidates") == sum(ends.values())
    _refuse(table, ~balanced, "has candidates other than masks kept plus all rejections")
    fine = _flags(pc.equal(table["status"], Status.OK))
    explained = ~_flags(pc.is_null(table["error_class"]))
    _refuse(table, fine == explained, "must have an error_class exactly when it is not ok")
    _refuse(table, ~fine & (ends["n_masks"] > 0), "has masks although it is not ok")
    for step in STEPS:
        seconds = _floats(table, f"seconds_{step}")
        _refuse(table, ~(seconds >= 0), f"has seconds_{step} that are no time")


def check_shard(masks: pa.Table, outcomes: pa.Table) -> None:
    """Raise RowError unless the two files of one shard are sound and tell the same: one run, one shard, and for every
    image as many masks as its outcome says."""
    check_masks(masks)
    check_outcomes(outcomes)
    runs = set(masks["run_id"].unique().to_pylist()) | set(outcomes["run_id"].unique().to_pylist())
    if len(runs) > 1 or len(outcomes["shard"].unique()) > 1:
        raise RowError(f"shard: its rows are of several runs or shards: runs {sorted(runs)}")
    found = {row["values"]: row["counts"] for row in masks["image_id"].value_counts().to_pylist()}
    said = dict(zip(outcomes["image_id"].to_pylist(), outcomes["n_masks"].to_pylist(), strict=True))
    for image in sorted(found.keys() | said.keys()):
        if found.get(image, 0) != said.get(image, 0):
            raise RowError(
                f"shard: image {image} has {found.get(image, 0)} masks, its outcome says {said.get(image, 'nothing')}"
            )


def _check_shapes(table: pa.Table) -> None:
    """Stage, size, box, area and RLE of masks and annotations."""
    _require_enum(table, "stage", Stage)
    _require_positive(table, ["height", "width", "area"])
    _require_box_inside(table, "bbox", what="box")
    heights = _ints(table, "height")
    try:
        found = measure(table["rle"], heights)
    except RleError as error:
        raise RowError(f"{_row_name(table, error.row)} has an rle that {error.message}") from error
    _refuse(table, found.pixels != heights * _ints(table, "width"), "has an rle that does not cover its image")
    _refuse(table, found.areas != _ints(table, "area"), "has an area other than its rle's")
    boxes = np.stack([_ints(table, f"bbox_{side}") for side in "xywh"], axis=1)
    _refuse(table, (found.boxes != boxes).any(axis=1), "has a box other than its rle's")


def _check_scores_and_points(table: pa.Table) -> None:
    iou, stability = _floats(table, "predicted_iou"), _floats(table, "stability_score")
    _refuse(table, ~np.isfinite(iou), "has a predicted_iou that is no number")
    _refuse(table, ~((stability >= 0) & (stability <= 1)), "has a stability_score outside of 0 to 1")
    x, y = _floats(table, "point_x"), _floats(table, "point_y")
    inside = (x >= 0) & (y >= 0) & (x <= _ints(table, "width")) & (y <= _ints(table, "height"))
    _refuse(table, ~inside, "has its point outside of the image")


def _require_box_inside(table: pa.Table, prefix: str, *, what: str) -> None:
    x, y, w, h = (_ints(table, f"{prefix}_{side}") for side in "xywh")
    inside = (x >= 0) & (y >= 0) & (w >= 1) & (h >= 1)
    inside &= (x + w <= _ints(table, "width")) & (y + h <= _ints(table, "height"))
    _refuse(table, ~inside, f"has a {what} that is empty or leaves the image")


def _require_positive(table: pa.Table, columns: list[str]) -> None:
    for column in columns:
        _refuse(table, _ints(table, column, null=1) < 1, f"has {column} below 1")


def _require_enum(table: pa.Table, column: str, allowed: type[StrEnum]) -> None:
    known = pc.is_in(table[column], pa.array(list(allowed), pa.string()))
    _refuse(table, ~_flags(known), f"has a {column} that is none of {', '.join(allowed)}")


def _require_unique(table: pa.Table, keys: list[str]) -> None:
    counted = table.select(keys).group_by(keys).aggregate([([], "count_all")])
    if counted.num_rows == table.num_rows:
        return
    twice = counted.filter(pc.greater(counted["count_all"], 1))
    value = ", ".join(f"{key} {twice[key][0].as_py()}" for key in keys)
    raise RowError(f"{_name(table)}: {value} is there {twice['count_all'][0].as_py()} times; it must be unique")


def _refuse(table: pa.Table, bad: Flags, why: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        others = f" (and {rows.size - 1} more)" if rows.size > 1 else ""
        raise RowError(f"{_row_name(table, int(rows[0]))} {why}{others}")


def _row_name(table: pa.Table, row: int) -> str:
    key = "mask_id" if "mask_id" in table.column_names else "image_id"
    return f"{_name(table)}: {key} {table[key][row].as_py()}"


def _name(table: pa.Table) -> str:
    name: str = table.schema.metadata[b"table"].decode()
    return name


def _ints(table: pa.Table, column: str, *, null: int = 0) -> Ints:
    """An integer column as int64, so that products of sizes do not overflow."""
    numbers: Ints = table[column].fill_null(null).to_numpy().astype(np.int64)
    return numbers


def _floats(table: pa.Table, column: str) -> NDArray[np.float32]:
    """A float column; null, which is only allowed where nothing is known, as 0."""
    numbers: NDArray[np.float32] = table[column].fill_null(0.0).to_numpy()
    return numbers


def _flags(values: pa.ChunkedArray) -> Flags:
    """A boolean column; null as false."""
    flags: Flags = values.fill_null(False).to_numpy()
    return flags
