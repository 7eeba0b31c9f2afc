"""From low-resolution logits to numbers and run-lengths in one pass over the part of a mask that can be positive.

The results of `plain` without ever holding a mask at full size. Run-lengths go by columns, and so does the work:

    low-resolution logits -> two columns of the model input, kept while they are in use -> one column of the crop
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import Frame
from sam_core.masks import plain
from sam_core.masks.bilinear import Axis, Floats, Resize, axes
from sam_core.masks.candidates import Measures, object_column
from sam_core.masks.compiled import entry, inner

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

SMALLEST = 128
"""Up to this sum of height and width, interpolate computes otherwise; `plain` costs nothing there."""
SLACK = np.float32(1.00001)
"""An interpolated value exceeds the largest of its sources by less than this factor, which is rounding."""
INNER, OUTER, FIRST_ROW, LAST_ROW, FIRST_COLUMN, LAST_COLUMN, END = range(7)
"""What is noted of a mask: pixels above +offset and -offset, its box in the crop, and where its changes end."""


class Span(NamedTuple):
    """Positions from start up to, but not including, stop."""

    start: int
    stop: int


class Place(NamedTuple):
    """The crop in the original image, whose pixels are counted column by column: its first pixel, a column's, all."""

    corner: int
    height: int
    total: int


class Setting(NamedTuple):
    """What all masks of a call share."""

    y: Axis
    x: Axis
    place: Place
    offset: np.float32


class Region(NamedTuple):
    """The part of a mask that can be positive: in the crop, and what that is made from in the frames before."""

    rows: Span
    columns: Span
    input_rows: Span
    low_rows: Span
    low_columns: Span


class Scratch(NamedTuple):
    """Buffers for one mask after the other.

    turned   float32 [w, h], the region of the logits, columns first
    low_res  float32, a column of logits stretched along x
    pair     float32 [2, :], neighbouring columns of the model input, the even one first
    held     int64 [2], which columns those are
    blended  float32, the two of them blended
    values   float32, the region's part of a column of the crop
    inside   whether those are above 0, with a 0 before and behind
    change   whether inside[i] differs from inside[i + 1]; read eight at a time
    """

    turned: Floats
    low_res: Floats
    pair: Floats
    held: Integers
    blended: Floats
    values: Floats
    inside: Bytes
    change: Bytes


def measure(logits: Tensor, frame: Frame, *, offset: float) -> Measures:
    """Exactly what `plain.measure` returns on the CPU, for low-resolution logits float [K, h, w] on any device.

    Exactly means on a CPU with fused multiply-add. Without it torch rounds once more, and a pixel at a threshold may
    fall on its other side.
    """
    if min(2 * frame.image_size, sum(frame.crop_size)) <= SMALLEST:
        return plain.measure(logits, frame, offset=offset)
    (height, width), (x0, y0) = frame.original_size, frame.crop_box[:2]
    place = Place(corner=x0 * height + y0, height=height, total=height * width)
    low_res = (logits.shape[1], logits.shape[2])
    setting = Setting(*axes(frame, low_res=low_res), place, np.float32(offset))
    notes, changes = _trace_all(logits.float().cpu().contiguous().numpy(), setting, _scratch(low_res, frame))
    positions = np.split(changes, notes[:-1, END])[: len(notes)]
    runs = [np.diff(each, prepend=0, append=place.total) for each in positions]
    return Measures(
        stability_score=_ratio(notes[:, INNER], notes[:, OUTER]),
        areas=np.array([each[1::2].sum() for each in runs], dtype=np.int64),
        boxes=notes[:, [FIRST_COLUMN, FIRST_ROW, LAST_COLUMN, LAST_ROW]] + np.array([x0, y0, x0, y0]),
        runs=object_column(runs),
    )


def _ratio(inner: Integers, outer: Integers) -> Floats:
    """float32 [K], as `stability_scores` divides: 0 where both are 0."""
    ratio: Floats = np.divide(inner, np.maximum(outer, 1), dtype=np.float32)
    return ratio


def _scratch(low_res: tuple[int, int], frame: Frame) -> Scratch:
    """Buffers for logits of the size `low_res` (height, width)."""
    input_height, height = frame.input_size[0], frame.crop_size[0]
    return Scratch(
        turned=np.empty((low_res[1], low_res[0]), np.float32),
        low_res=np.empty(low_res[0], np.float32),
        pair=np.empty((2, input_height), np.float32),
        held=np.empty(2, np.int64),
        blended=np.empty(input_height, np.float32),
        values=np.empty(height, np.float32),
        inside=np.zeros(height + 2, np.uint8),
        change=np.zeros((height // 8 + 1) * 8, np.uint8),
    )


@intrinsic  # type: ignore[untyped-decorator]
def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in float32, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return numba.float32(numba.float32, numba.float32, numba.float32), generate


@inner
def _blend(target: Floats, low: Floats, low_weight: np.float32, high: Floats, high_weight: np.float32) -> None:
    """Along x: the weighted sum of two columns, into a third of the same length."""
    for i in range(len(target)):
        target[i] = _fma(low[i], low_weight, high[i] * high_weight)


@inner
def _resample(target: Floats, source: Floats, resize: Resize, span: Span) -> None:
    """Along y: the positions of `span` of a resized column, into `target`, which is as long as the span."""
    low, high = resize.low[span.start : span.stop], resize.high[span.start : span.stop]
    low_weight = resize.low_weight[span.start : span.stop]
    high_weight = resize.high_weight[span.start : span.stop]
    for i in range(len(target)):
        target[i] = _fma(source[low[i]], low_weight[i], source[high[i]] * high_weight[i])


@inner
def _looking_at(resize: Resize, source: Span) -> Span:
    """The target positions that are made from any source position of the span."""
    start, stop = 0, len(resize.low)
    while start < stop and resize.high[start] < source.start:
        start += 1
    while stop > start and resize.low[stop - 1] >= source.stop:
        stop -= 1
    return Span(start, stop)


@inner
def _looked_at(resize: Resize, target: Span) -> Span:
    """The source positions that the target positions of the span, at least one, are made from."""
    # int() of a uint32 stays one when compiled.
    first, last = np.int64(resize.low[target.start]), np.int64(resize.high[target.stop - 1])
    return Span(int(first), int(last) + 1)


@inner
def _trace(
    logits: Floats, region: Region, setting: Setting, scratch: Scratch, note: Integers, changes: Integers, n: int
) -> tuple[Integers, int]:
    """Fill in the note of one mask and append its changes from position n on.

    Returns the changes, in a longer array if need be, and their number.
    """
    begin, length = n, region.rows.stop - region.rows.start
    _turn(scratch.turned, logits, region)
    scratch.held[:] = -1
    scratch.inside[length + 1] = 0
    first_row, last_row, first_column = length, -1, -1
    for column in range(region.columns.start, region.columns.stop):
        _crop_column(scratch, column, region, setting.y, setting.x)
        inner, outer = _classify(scratch.inside[1 : length + 1], scratch.values[:length], setting.offset)
        if outer == 0:
            continue
        note[INNER] += inner
        note[OUTER] += outer
        if n + length + 1 > len(changes):
            changes = np.concatenate((changes, np.empty(len(changes) + length + 1, np.int64)))
        start = setting.place.corner + column * setting.place.height + region.rows.start
        n, first, last = _append_changes(scratch, length, start, changes, begin, n)
        if last >= 0:
            first_row, last_row = min(first_row, first), max(last_row, last)
            first_column = column if first_column < 0 else first_column
            note[LAST_COLUMN] = column
    if first_column >= 0:
        note[FIRST_COLUMN] = first_column
        note[FIRST_ROW], note[LAST_ROW] = region.rows.start + first_row, region.rows.start + last_row
    if n > begin and changes[n - 1] == setting.place.total:
        n -= 1  # the last run ends with the image, which is no change
    return changes, n


@inner
def _crop_column(scratch: Scratch, column: int, region: Region, y: Axis, x: Axis) -> None:
    """Fill scratch.values with the region's rows of one column of the crop."""
    low_rows, input_rows = region.low_rows, region.input_rows
    low_res = scratch.low_res[low_rows.start : low_rows.stop]
    low, high = np.int64(x.to_crop.low[column]), np.int64(x.to_crop.high[column])
    for source in (low, high):
        if scratch.held[source & 1] != source:
            left, right = scratch.turned[x.to_input.low[source]], scratch.turned[x.to_input.high[source]]
            _blend(
                low_res,
                left[low_rows.start : low_rows.stop],
                x.to_input.low_weight[source],
                right[low_rows.start : low_rows.stop],
                x.to_input.high_weight[source],
            )
            target = scratch.pair[source & 1, input_rows.start : input_rows.stop]
            _resample(target, scratch.low_res, y.to_input, input_rows)
            scratch.held[source & 1] = source
    _blend(
        scratch.blended[input_rows.start : input_rows.stop],
        scratch.pair[low & 1, input_rows.start : input_rows.stop],
        x.to_crop.low_weight[column],
        scratch.pair[high & 1, input_rows.start : input_rows.stop],
        x.to_crop.high_weight[column],
    )
    _resample(scratch.values[: region.rows.stop - region.rows.start], scratch.blended, y.to_crop, region.rows)


@inner
def _classify(inside: Bytes, values: Floats, offset: np.float32) -> tuple[int, int]:
    """Set which values are above 0; returns how many are above +offset and above -offset."""
    inner, outer = 0, 0
    for i in range(len(values)):
        inner += values[i] > offset
        outer += values[i] > -offset
        inside[i] = values[i] > np.float32(0)
    return inner, outer


@inner
def _append_changes(
    scratch: Scratch, length: int, start: int, changes: Integers, begin: int, n: int
) -> tuple[int, int, int]:
    """Append the changes in a column of `length` px whose first pixel has position `start`.

    Mask that goes on from the foot of the column before has no change there: the two cancel out. Changes before `begin`
    are another mask's. Returns the number of changes, and the first and last row inside, -1 if there is none.
    """
    inside, change = scratch.inside[: length + 2], scratch.change[: (length // 8 + 1) * 8]
    change[length:] = 0
    for i in range(length + 1):
        change[i] = inside[i] ^ inside[i + 1]
    first, last = -1, -1
    eights = change.view(np.uint64)
    for eight in range(len(eights)):
        if eights[eight] == 0:
            continue
        for row in range(8 * eight, 8 * eight + 8):
            if change[row]:
                if n > begin and changes[n - 1] == start + row:
                    n -= 1
                else:
                    changes[n] = start + row
                    n += 1
                first, last = row if first < 0 else first, row - 1
    return n, first, last


@inner
def _region(logits: Floats, setting: Setting) -> Region:
    """Where interpolated values can exceed -offset; empty spans if they cannot anywhere."""
    y, x = setting.y, setting.x
    seen_rows, seen_columns = _above(logits, -setting.offset * SLACK)
    rows = _looking_at(y.to_crop, _looking_at(y.to_input, seen_rows))
    columns = _looking_at(x.to_crop, _looking_at(x.to_input, seen_columns))
    if rows.start == rows.stop or columns.start == columns.stop:
        nowhere = Span(0, 0)
        return Region(nowhere, nowhere, nowhere, nowhere, nowhere)
    input_rows = _looked_at(y.to_crop, rows)
    low_columns = _looked_at(x.to_input, _looked_at(x.to_crop, columns))
    return Region(rows, columns, input_rows, _looked_at(y.to_input, input_rows), low_columns)


@inner
def _above(logits: Floats, floor: np.float32) -> tuple[Span, Span]:
    """Rows and columns of logits [h, w] between the first and the last value above `floor`."""
    rows, columns = np.zeros(logits.shape[0], np.uint8), np.zeros(logits.shape[1], np.uint8)
    for row in range(logits.shape[0]):
        count = 0
        for column in range(logits.shape[1]):
            columns[column] |= logits[row, column] > floor
            count += logits[row, column] > floor
        rows[row] = count > 0
    return _flagged(rows), _flagged(columns)


@inner
def _flagged(flags: Bytes) -> Span:
    """From the first to the last flag that is set; empty if none is."""
    start, stop = 0, len(flags)
    while start < stop and not flags[start]:
        start += 1
    while stop > start and not flags[stop - 1]:
        stop -= 1
    return Span(start, stop)


@inner
def _turn(turned: Floats, logits: Floats, region: Region) -> None:
    """Copy the region of logits [h, w] into [w, h]."""
    rows, columns = region.low_rows, region.low_columns
    source = logits[rows.start : rows.stop, columns.start : columns.stop]
    target = turned[columns.start : columns.stop, rows.start : rows.stop]
    for column in range(target.shape[0]):
        for row in range(target.shape[1]):
            target[column, row] = source[row, column]


@entry
def _trace_all(logits: Floats, setting: Setting, scratch: Scratch) -> tuple[Integers, Integers]:
    """Notes int64 [K, 7] of K masks, and the positions of all their changes, one mask after the other."""
    notes = np.zeros((len(logits), 7), np.int64)
    # Not a literal 0, for which numba would compile everything a second time.
    changes, n = np.empty(4096, np.int64), int(np.int64(0))
    for k in range(len(logits)):
        region = _region(logits[k], setting)
        if region.columns.start < region.columns.stop:
            changes, n = _trace(logits[k], region, setting, scratch, notes[k], changes, n)
        notes[k, END] = n
    return notes, changes[:n].copy()
