"""Which images a Parquet file may have rows of, by its footer alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

ALL_DIGITS = "g"
"""Follows every hexadecimal digit: ids that begin with `x` are those from `x` on and before `x` + ALL_DIGITS."""


class ImageSpan(NamedTuple):
    """The first and the last image id of a file, in the order of the alphabet."""

    first: str
    last: str

    def may_hold(self, first: str, last: str) -> bool:
        """Whether an id can be in the file that lies between the two, or begins as one of them does."""
        return self.last >= first and self.first < last + ALL_DIGITS


class FilesByImage:
    """Files by the images that they may have rows of. Those of some images are found without a look at all others: who
    asks page by page would else look at the square of their number.

    spans: of each file, by its key.
    """

    def __init__(self, spans: Mapping[str, ImageSpan]) -> None:
        self._files = sorted(spans.items(), key=lambda file: file[1])
        self._first = [span.first for _, span in self._files]
        self._reached = list(accumulate((span.last for _, span in self._files), max))  # as spans may lie in others

    def holding(self, first: str, last: str) -> list[str]:
        """Keys of the files for which `ImageSpan.may_hold` says so."""
        start, stop = bisect_left(self._reached, first), bisect_left(self._first, last + ALL_DIGITS)
        return [key for key, span in self._files[start:stop] if span.may_hold(first, last)]


def read_span(file: pa.NativeFile) -> ImageSpan:
    """The span of a Parquet file with a column `image_id`; of one without bounds in its footer, all ids."""
    footer = pq.read_metadata(file)
    column = footer.schema.names.index("image_id")
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    bounds = [group.column(column).statistics for group in groups if group.num_rows]
    if any(each is None or not each.has_min_max for each in bounds):
        return ImageSpan("", ALL_DIGITS)
    return ImageSpan(
        min((each.min for each in bounds), default=ALL_DIGITS), max((each.max for each in bounds), default="")
    )
