"""What a separate file says about images, joined to them by URI or by file name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace

from workflows.manifests import describe
from workflows.named_rows import NamedRows
from workflows.uris import ImageRef


class MetadataTable:
    """A CSV or Parquet file whose column `uri` or `file_name` names images; its other columns are about them.

    Raises ValueError (one line) when the file is neither, or has no such column.
    """

    def __init__(self, path: str) -> None:
        self._path, self._rows = path, NamedRows(path)
        self._facts = self._rows.table.drop_columns([self._rows.key])
        self._used: set[int] = set()

    def add_to(self, references: Iterable[ImageRef]) -> Iterator[ImageRef]:
        """The references, with what the table says about them. Of several rows the one of the longest name counts, of
        equal ones the last; an empty cell says nothing."""
        for reference in references:
            numbers = self._rows.find(reference.uri)
            self._used.update(numbers)
            yield self._described(reference, numbers) if numbers else reference

    def usage(self) -> str:
        """How many of its rows were about a reference, in words."""
        return f"{self._path}: {len(self._used):,} of {len(self._facts):,} rows are about images of the source"

    def _described(self, reference: ImageRef, numbers: list[int]) -> ImageRef:
        known = json.loads(reference.metadata) if reference.metadata else {}
        for number in sorted(numbers, key=lambda number: len(self._rows.names[number])):
            (row,) = self._facts.slice(number, 1).to_pylist()
            known |= {name: value for name, value in row.items() if value is not None}
        licence, metadata = describe(known)
        return replace(reference, licence=licence or reference.licence, metadata=metadata)
