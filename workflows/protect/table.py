"""Regions to blur as a table says them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from workflows.named_rows import NamedRows
from workflows.protect.blur import Region
from workflows.uris import ImageRef

_BOX = ("x", "y", "w", "h")


class BoxTable:
    """Regions by URI, or by file name with as much of the path before it as it takes.

    Raises ValueError (one line) when the table is none, lacks a column, or holds a box that is none.
    """

    def __init__(self, path: str) -> None:
        self._rows = NamedRows(path)
        table = self._rows.table
        if missing := [name for name in _BOX if name not in table.column_names]:
            raise ValueError(f"{path}: no column {', '.join(missing)}; the columns are {', '.join(table.column_names)}")
        self.name = Path(path).name
        self._regions = [_region(row, f"{path} row {number}") for number, row in enumerate(table.to_pylist())]
        self._path, self._unused = path, set(self._rows.names)

    @property
    def is_empty(self) -> bool:
        return not self._regions

    def regions(self, uri: str) -> list[Region]:
        """The regions of a picture; none where the table does not name it."""
        return [self._regions[number] for number in self._rows.find(uri)]

    def note(self, pictures: Iterable[ImageRef]) -> None:
        """These pictures are there."""
        for picture in pictures:
            self._unused.difference_update(self._rows.names[number] for number in self._rows.find(picture.uri))

    def unused(self) -> list[str]:
        """What the table names and no picture was called, a line each."""
        nameless = [f"{self._path}: a row names no picture"] if "" in self._unused else []
        return nameless + [f"{self._path}: no picture is called {name}" for name in sorted(self._unused - {""})]


def _region(row: dict[str, Any], where: str) -> Region:
    try:
        x, y, w, h = (float(row[name]) for name in _BOX)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: x, y, w and h must be numbers") from error
    if not (np.isfinite([x, y, w, h]).all() and w > 0 and h > 0):
        raise ValueError(f"{where}: a box of {w} x {h} px at {x}, {y} is none")
    return Region(x, y, w, h, str(row.get("kind") or "region"))
