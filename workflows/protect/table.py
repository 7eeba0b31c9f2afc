"""Regions to blur as a table says them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from workflows.metadata import read_table
from workflows.protect.blur import Region
from workflows.sources import ImageRef
from workflows.storage import S3_SCHEME

_BOX = ("x", "y", "w", "h")


class BoxTable:
    """Regions by URI, or by file name with as much of the path before it as it takes.

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
        self._named: dict[str, set[str]] = defaultdict(set)  # the table's names by the file name at their end
        for number, row in enumerate(table.to_pylist()):
            name = _full(str(row[key])) if key == "uri" else str(row[key])
            self._regions[name].append(_region(row, f"{path} row {number}"))
            self._named[PurePosixPath(name).name].add(name)
        self._path, self._unused = path, set(self._regions)

    @property
    def is_empty(self) -> bool:
        return not self._regions

    def regions(self, uri: str) -> list[Region]:
        """The regions of a picture; none where the table does not name it."""
        return [region for name in self._names_of(uri) for region in self._regions[name]]

    def note(self, pictures: Iterable[ImageRef]) -> None:
        """These pictures are there."""
        for picture in pictures:
            self._unused.difference_update(self._names_of(picture.uri))

    def unused(self) -> list[str]:
        """What the table names and no picture was called, a line each."""
        return [f"{self._path}: no picture is called {name}" for name in sorted(self._unused)]

    def _names_of(self, uri: str) -> list[str]:
        uri = _full(uri)
        known = self._named.get(PurePosixPath(uri).name, ())
        return sorted(name for name in known if uri == name or uri.endswith(f"/{name}"))


def _full(uri: str) -> str:
    """A URI as only one spelling of it is: absolute, without `..`."""
    return uri if uri.startswith(S3_SCHEME) else os.path.normpath(Path(uri).absolute())


def _region(row: dict[str, Any], where: str) -> Region:
    try:
        x, y, w, h = (float(row[name]) for name in _BOX)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: x, y, w and h must be numbers") from error
    if not (np.isfinite([x, y, w, h]).all() and w > 0 and h > 0):
        raise ValueError(f"{where}: a box of {w} x {h} px at {x}, {y} is none")
    return Region(x, y, w, h, str(row.get("kind") or "region"))
