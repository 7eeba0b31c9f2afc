"""What is wrong with a data set after a disturbed run, counted against one made in peace."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.workflows.conftest import mask_rows
from workflows.sql import connect
from workflows.storage import open_store

Row = tuple[Any, ...]

_OUTCOMES = "SELECT image_id, status, n_masks FROM outcomes"
_MASKS = "SELECT image_id, mask_id FROM masks"


@dataclass(frozen=True, slots=True)
class Findings:
    """All zero when nothing is wrong.

    lost: images without an `ok` outcome. duplicated: outcomes or masks beyond the first of the same name. partial:
    images with other than the counted number of masks, and rows of the view `problems`. differing: mask rows that the
    undisturbed run does not have, or has alone. leftovers: markers of workers that were at work.
    """

    lost: int = 0
    duplicated: int = 0
    partial: int = 0
    differing: int = 0
    leftovers: int = 0


def reference_rows(dataset: str) -> list[Row]:
    """Every deterministic column of every mask, in order."""
    return sorted(tuple(row.values()) for row in mask_rows(dataset).to_pylist())


def examine(dataset: str, images: int, expected: list[Row]) -> Findings:
    """Count what is wrong. Raises ValueError when the data set cannot be opened at all."""
    connection = connect(dataset)
    outcomes = connection.execute(_OUTCOMES).fetchall()
    masks = connection.execute(_MASKS).fetchall()
    found, counts = Counter(reference_rows(dataset)), Counter(image for image, _ in masks)
    wanted = Counter(expected)
    return Findings(
        lost=images - len({image for image, status, _ in outcomes if status == "ok"}),
        duplicated=_surplus(image for image, *_ in outcomes) + _surplus(mask for _, mask in masks),
        partial=sum(counts[image] != n_masks for image, _, n_masks in outcomes)
        + len(connection.execute("SELECT * FROM problems").fetchall()),
        differing=(found - wanted).total() + (wanted - found).total(),
        leftovers=sum(1 for _ in open_store(dataset).list("in_flight")),
    )


def _surplus(names: Any) -> int:
    return sum(count - 1 for count in Counter(names).values())
