"""What a task is to the job that runs it: rows per image on the workers, figures from all rows at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sam_core.clip import Clip
from sam_core.model.sam import Sam
from workflows.image_limits import MAX_PIXELS
from workflows.uris import UriReader

MEASURED, PAPER = "measured", "paper"
Unit = Literal["percent", "fraction", "points", "count"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a table: `row` is a data set or group, `value` 0..1 but for points and counts.

    origin: MEASURED or PAPER. low, high: bounds of the 95 % interval, if there is one.
    """

    row: str
    figure: str
    value: float
    unit: Unit = "percent"
    low: float | None = None
    high: float | None = None
    origin: str = MEASURED


@dataclass(frozen=True, slots=True)
class Bench:
    """What a worker works with: models and CLIP, as far as the task has any, and a reader of files."""

    sam: Sam | None
    max_pixels: int = MAX_PIXELS
    threads: int = 1
    clip: Clip | None = None
    rival: Sam | None = None
    reader: UriReader = field(default_factory=UriReader)

    @property
    def model(self) -> Sam:
        assert self.sam is not None, "this task was started without a model"
        return self.sam

    @property
    def words(self) -> Clip:
        assert self.clip is not None, "this task was started without a CLIP"
        return self.clip


class Task(Protocol):
    """A way to measure. Small, and can be pickled."""

    @property
    def needs_model(self) -> bool: ...

    @property
    def schema(self) -> pa.Schema:
        """Of the rows, which begin with `set` and `name` of the image."""

    def plan(self) -> pa.Table:
        """The images to measure on, rows of schemas.evaluation.PLAN. Raises ValueError or OSError, one line each."""

    def measure(self, row: Mapping[str, Any], bench: Bench) -> list[dict[str, Any]]:
        """Rows of one image of the plan. Raises ValueError (ImageError) when the image or its truth is at fault."""

    def figures(self, rows: pa.Table, plan: pa.Table) -> list[Figure]:
        """The table: ours from all rows, of which `plan` lists the images that were measured, and the paper's."""


def by_set(rows: pa.Table) -> dict[str, pa.Table]:
    """The rows of each data set, in the order of first appearance."""
    names = dict.fromkeys(rows["set"].to_pylist())
    return {name: rows.filter(pc.equal(rows["set"], name)) for name in names}


def rng_of(seed: int, *names: str) -> np.random.Generator:
    """Draws that depend on the seed and the names alone, in whatever order images are worked on."""
    return np.random.default_rng([seed, *"\0".join(names).encode()])


def matrix(lists: pa.ChunkedArray) -> NDArray[Any]:
    """A column of lists of one length as [rows, length]."""
    return np.array(lists.to_pylist()).reshape(len(lists), -1)


def published(rows: Mapping[str, Mapping[str, float]], *, unit: Unit = "percent") -> list[Figure]:
    """The paper's figures by row and figure, as it prints them: percent are divided by 100."""
    scale = 100 if unit == "percent" else 1
    return [
        Figure(row, name, value / scale, unit, origin=PAPER)
        for row, each in rows.items()
        for name, value in each.items()
    ]


def mean(values: Iterable[float]) -> float:
    """The unweighted mean; NaN for none."""
    found = list(values)
    return sum(found) / len(found) if found else float("nan")
