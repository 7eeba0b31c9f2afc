"""Regions to blur as a table says them."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from workflows.metadata import read_table
from workflows.protect.blur import Region
from workflows.storage import S3_SCHEME

_BOX = ("x", "y", "w", "h")


class BoxTable:
    """Regions by URI or file name.

    Raises ValueError (one line) when the table is none, lacks a column, or holds a box that is none.
    """

    def __init__(self, path: str) -> None:
        table = read_table(path)
        key = next((name for name in ("uri", "file_name") if name in table.column_names), None)
        if key is None or (missing := [name for name in _BOX if name not in table.column_names]):
            lacking = ", ".join(missing) if key else "uri or file_name"
            raise ValueError(f"{path}: no column {lacking}; the columns are {', '.join(table.column_names)}")
        self.name = Path(path).name
        self._regions: dict[str, list[Region]] = defaultdict(list)
        for number, row in enumerate(table.to_pylist()):
            name = str(row[key])
            self._regions[_full(name) if key == "uri" else name].append(_region(row, f"{path} row {number}"))

    def regions(self, uri: str) -> list[Region]:
        """The regions of a picture; none where the table does not name it."""
        return self._regions.get(uri) or self._regions.get(PurePosixPath(uri).name, [])


def _full(uri: str) -> str:
    return uri if uri.startswith(S3_SCHEME) else str(Path(uri).absolute())


def _region(row: dict[str, Any], where: str) -> Region:
    try:
        x, y, w, h = (float(row[name]) for name in _BOX)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: x, y, w and h must be numbers") from error
    if not (np.isfinite([x, y, w, h]).all() and w > 0 and h > 0):
        raise ValueError(f"{where}: a box of {w} x {h} px at {x}, {y} is none")
    return Region(x, y, w, h, str(row.get("kind") or "region"))
