"""Reading COCO compressed run lengths for whole columns at once: runs, areas and boxes without a loop over masks.

The format (pycocotools, maskApi.c): run lengths of background and mask in turn, down the columns, the first one
background; from the fourth on, each is stored as the difference to the one two before. A number is written in groups
of five bits, lowest first, one character of 48 to 111 per group; bit 5 says that more follow, and bit 4 of the last
group is the sign.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_FIRST_CHARACTER = 48
_MORE = 0x20
_SIGN = 0x10
_MOST_GROUPS = 7  # 35 bits: pycocotools holds run lengths in 32
_BYTES_AT_ONCE = 1 << 20
"""Of text that is taken apart at a time, or one mask: on the way to run lengths each byte takes 80."""


class RleError(ValueError):
    """Text that is not a valid RLE. `row` says which of the column."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(f"rle of row {row} {message}")
        self.row = row
        self.message = message


@dataclass(frozen=True, slots=True)
class Runs:
    """Run lengths of N masks, one after the other.

    lengths  int64 [R], px
    first    int64 [N + 1], where each mask's runs begin in `lengths`; the last entry is R
    """

    lengths: Ints
    first: Ints

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def pixels(self) -> Ints:
        """int64 [N]: pixels that the runs of each mask cover, background included; its image's height times width."""
        return _sums(self.lengths, self.first)

    @property
    def areas(self) -> Ints:
        """int64 [N]: pixels of each mask, as pycocotools' `area`."""
        return _sums(np.where(self._is_mask(), self.lengths, 0), self.first)

    def boxes(self, heights: Ints) -> Ints:
        """int64 [N, 4]: xywh in px, as pycocotools' `toBbox`; zeros for a mask without pixels.

        Args:
            heights: int64 [N], height of each mask's image.
        """
        kept = np.flatnonzero(self._is_mask() & (self.lengths > 0))
        owner = np.repeat(np.arange(len(self)), np.diff(self.first))[kept]
        ends = np.cumsum(self.lengths)
        origin = np.concatenate([[0], ends])[self.first[:-1]][owner]
        last = ends[kept] - origin - 1
        first = last - self.lengths[kept] + 1
        height = heights[owner]
        top, bottom = first % height, last % height
        several_columns = first // height != last // height
        x0, x1 = _extremes(first // height, last // height, owner, len(self))
        y0, y1 = _extremes(
            np.where(several_columns, 0, top), np.where(several_columns, height - 1, bottom), owner, len(self)
        )
        return np.stack([x0, y0, x1 - x0 + 1, y1 - y0 + 1], axis=1)

    def _is_mask(self) -> NDArray[np.bool_]:
        position = np.arange(len(self.lengths)) - np.repeat(self.first[:-1], np.diff(self.first))
        odd: NDArray[np.bool_] = position % 2 == 1
        return odd


@dataclass(frozen=True, slots=True)
class Measures:
    """What the runs of N masks say of each, as `Runs` has it: pixels and areas int64 [N], boxes int64 [N, 4]."""

    pixels: Ints
    areas: Ints
    boxes: Ints


def measure(column: pa.Array | pa.ChunkedArray, heights: Ints) -> Measures:
    """Of a binary column of compressed counts, no nulls, whose run lengths are never in memory all at once.

    Args:
        heights: int64 [N], px, of each mask's image.

    Raises:
        RleError: as `parse_runs`.
    """
    parts = [Measures(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4), np.int64))]
    for start, runs in _in_parts(column):
        parts.append(Measures(runs.pixels, runs.areas, runs.boxes(heights[start : start + len(runs)])))
    return Measures(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Measures)))


def parse_runs(column: pa.Array | pa.ChunkedArray) -> Runs:
    """The run lengths of a binary column of compressed counts, no nulls.

    Raises:
        RleError: a row is empty, cut off, holds a character outside the alphabet, or a negative run.
    """
    parts = [runs for _, runs in _in_parts(column)]
    runs_of_each = np.concatenate([np.zeros(1, np.int64), *(np.diff(runs.first) for runs in parts)])
    return Runs(np.concatenate([np.zeros(0, np.int64), *(runs.lengths for runs in parts)]), np.cumsum(runs_of_each))


def _in_parts(column: pa.Array | pa.ChunkedArray) -> Iterator[tuple[int, Runs]]:
    """Some rows after the other: the first of them, and their runs."""
    data, offsets = _bytes_of(column)
    start = 0
    while start < len(offsets) - 1:
        fitting = int(np.searchsorted(offsets, offsets[start] + _BYTES_AT_ONCE, side="right")) - 1
        stop = max(start + 1, fitting)
        text = data[offsets[start] : offsets[stop]]
        try:
            runs = _parsed(text, offsets[start : stop + 1] - offsets[start])
        except RleError as error:
            raise RleError(start + error.row, error.message) from None
        yield start, runs
        start = stop


def _parsed(data: NDArray[np.uint8], offsets: Ints) -> Runs:
    if (empty := np.flatnonzero(np.diff(offsets) == 0)).size:
        raise RleError(int(empty[0]), "is empty")
    groups = (data - np.uint8(_FIRST_CHARACTER)).astype(np.int64)
    if (strange := np.flatnonzero(groups > 63)).size:
        raise RleError(_row_of(offsets, strange[0]), f"holds the byte {data[strange[0]]}, outside of 48 to 111")
    if (cut := np.flatnonzero(groups[offsets[1:] - 1] & _MORE)).size:
        raise RleError(int(cut[0]), "is cut off in the middle of a number")
    values, ends = _numbers(groups, offsets)
    first = np.searchsorted(ends, offsets)
    lengths = _undo_differences(values, first)
    if (negative := np.flatnonzero(lengths < 0)).size:
        raise RleError(_row_of(first, negative[0]), "holds a negative run length")
    return Runs(lengths, first)


def _bytes_of(column: pa.Array | pa.ChunkedArray) -> tuple[NDArray[np.uint8], Ints]:
    """All bytes of a binary column, and int64 [N + 1] where each row begins."""
    chunk = column.cast(pa.large_binary())  # whose rows may have more than 2 GB together
    chunk = chunk.combine_chunks() if isinstance(chunk, pa.ChunkedArray) else chunk
    _, offsets_buffer, data_buffer = chunk.buffers()
    if len(chunk) == 0:
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(offsets_buffer, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)[offsets[0] : offsets[-1]]
    return data, offsets - offsets[0]


def _numbers(groups: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Values of all numbers, signed, and the position of the last group of each."""
    ends = np.flatnonzero((groups & _MORE) == 0)
    starts = np.concatenate([np.zeros(1, np.int64), ends + 1])[: len(ends)]
    sizes = ends - starts + 1
    if (long := np.flatnonzero(sizes > _MOST_GROUPS)).size:
        raise RleError(_row_of(offsets, starts[long[0]]), "holds a number of more than 35 bits")
    place = 5 * (np.arange(len(groups)) - np.repeat(starts, sizes))
    values = _sums((groups & 0x1F) << place, np.append(starts, len(groups)))
    negative = (groups[ends] & _SIGN) != 0
    return values - (negative.astype(np.int64) << (5 * sizes)), ends


def _undo_differences(values: Ints, first: Ints) -> Ints:
    """Run lengths from stored numbers: two interleaved running sums per mask, of which the very first run is none."""
    counts = np.diff(first)
    position = np.arange(len(values)) - np.repeat(first[:-1], counts)
    odd = _running_sums(np.where(position % 2 == 1, values, 0), first, counts)
    even = _running_sums(np.where((position % 2 == 0) & (position > 0), values, 0), first, counts)
    return np.where(position == 0, values, np.where(position % 2 == 1, odd, even))


def _running_sums(values: Ints, first: Ints, counts: Ints) -> Ints:
    """Cumulative sums that begin anew with every mask."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    sums: Ints = before[1:] - np.repeat(before[first[:-1]], counts)
    return sums


def _sums(values: Ints, first: Ints) -> Ints:
    """Sum of each slice `values[first[i]:first[i + 1]]`; empty slices give 0."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
    sums: Ints = before[first[1:]] - before[first[:-1]]
    return sums


def _extremes(low: Ints, high: Ints, owner: Ints, count: int) -> tuple[Ints, Ints]:
    """Smallest `low` and greatest `high` of each owner; (0, -1) where it has none."""
    smallest = np.full(count, np.iinfo(np.int64).max)
    greatest = np.full(count, -1)
    np.minimum.at(smallest, owner, low)
    np.maximum.at(greatest, owner, high)
    return np.where(greatest < 0, 0, smallest), greatest


def _row_of(offsets: Ints, position: np.int64) -> int:
    return int(np.searchsorted(offsets, position, side="right")) - 1
