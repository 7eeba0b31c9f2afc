"""What DuckDB counts of a data set: masks per image, sizes, and where in the image masks lie. Over all masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workflows.audit.subject import Subject
from workflows.report.bins import Bins, whole_bins
from workflows.report.queries import BUCKET_SQL, BUCKETS

RELATIVE_SIZES = Bins(first=-30, count=30, width=0.1, kind="log")
"""Bins of relative size, from 0.001 to 1; smaller masks count in the first."""
RINGS = 10
"""Frames of equal area around the middle of the image."""
GRID = 32
"""Cells of the map of centres, along each side."""
_RELATIVE = "relative_size(area, height, width)"
# To the sixth decimal, of which there are a million at most: DuckDB's own median keeps every mask in memory.
_MEDIAN = f"""
WITH sizes AS (SELECT round({_RELATIVE}, 6) AS size, count(*) AS times FROM audit_masks GROUP BY size),
ranked AS (SELECT size, 2 * sum(times) OVER (ORDER BY size) AS twice, sum(times) OVER () AS masks FROM sizes)
SELECT (min(size) FILTER (twice >= masks) + min(size) FILTER (twice > masks)) / 2 AS median_relative_size FROM ranked"""
_X, _Y = "(bbox_x + bbox_w / 2) / width", "(bbox_y + bbox_h / 2) / height"
_RING = f"greatest(abs(2 * ({_X}) - 1), abs(2 * ({_Y}) - 1)) ** 2"


@dataclass(frozen=True, slots=True)
class Counted:
    """Numbers of parts (bins, buckets, rings), and the SQL that gave them."""

    values: NDArray[np.float64]
    sql: str


@dataclass(frozen=True, slots=True)
class Totals:
    """One line about a data set. `border` is the mean place of mask centres among equal areas from the middle (0) to
    the border (1): 0.5 when they are spread evenly."""

    images: int
    masks: int
    masks_per_image: float | None
    median_masks_per_image: float | None
    median_relative_size: float | None
    small: int
    medium: int
    large: int
    border: float | None
    repeated_files: int


def totals(subject: Subject) -> Totals:
    """The figures of the table at the top."""
    images = subject.rows(
        "SELECT count(*) AS images, sum(n_masks)::BIGINT AS masks, avg(n_masks) AS masks_per_image,"
        " median(n_masks) AS median_masks_per_image, sum(files - 1)::BIGINT AS repeated_files FROM audit_images"
    )[0]
    masks = subject.rows(
        f"SELECT avg({_RING}) AS border,"
        " count(*) FILTER (area < 32 * 32) AS small,"
        " count(*) FILTER (area >= 32 * 32 AND area < 96 * 96) AS medium,"
        " count(*) FILTER (area >= 96 * 96) AS large FROM audit_masks"
    )[0]
    whole = {name: images[name] or 0 for name in ("masks", "repeated_files")}
    return Totals(**(images | whole | masks | subject.rows(_MEDIAN)[0]))  # type: ignore[arg-type]


def buckets(subject: Subject) -> Counted:
    """Images in each of the paper's groups of masks per image."""
    return _counted(subject, BUCKET_SQL, len(BUCKETS), "audit_images")


def masks_per_image(subjects: list[Subject]) -> tuple[Bins, list[Counted]]:
    """Images by number of masks, in bins that suit all data sets; the last bin holds the few above as well."""
    asked = "SELECT quantile_disc(n_masks, 0.999) AS top FROM audit_images"
    tops = [subject.rows(asked)[0]["top"] for subject in subjects]
    bins = whole_bins(max(1, *(int(str(top or 0)) for top in tops)))
    return bins, [_counted(subject, bins.sql("n_masks"), bins.count, "audit_images") for subject in subjects]


def relative_sizes(subject: Subject) -> Counted:
    """Masks in each of RELATIVE_SIZES."""
    number = f"greatest({RELATIVE_SIZES.sql(f'greatest({_RELATIVE}, 0.001)')}, 0)"
    return _counted(subject, number, RELATIVE_SIZES.count, "audit_masks")


def rings(subject: Subject) -> Counted:
    """Masks whose box has its centre in each of RINGS frames of equal area, from the middle outward."""
    return _counted(subject, f"least(floor({_RING} * {RINGS})::INT, {RINGS - 1})", RINGS, "audit_masks")


def centres(subject: Subject) -> Counted:
    """float [GRID * GRID], row by row: masks whose box has its centre in a cell of the image."""
    x, y = (f"greatest(least(floor({place} * {GRID})::INT, {GRID - 1}), 0)" for place in (_X, _Y))
    return _counted(subject, f"{y} * {GRID} + {x}", GRID * GRID, "audit_masks")


def _counted(subject: Subject, number: str, parts: int, relation: str) -> Counted:
    """Rows by the SQL expression that numbers their part from 0."""
    shown = subject.masks_sql if relation == "audit_masks" else subject.images_sql
    sql = "SELECT {number} AS part, count(*) AS times FROM {relation} GROUP BY part ORDER BY part"
    values = np.zeros(parts)
    for row in subject.rows(sql.format(number=number, relation=relation)):
        values[int(str(row["part"]))] = int(str(row["times"]))
    return Counted(values, sql.format(number=number, relation=shown))
