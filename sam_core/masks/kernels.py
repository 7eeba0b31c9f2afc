"""From low-resolution logits to numbers and run-lengths in one pass over the part of a mask that can be positive.

The results of `plain` without ever holding a mask at full size. Run-lengths go by columns, vectors by rows: so the work
goes by blocks of a few columns,

    low-resolution logits -> model input -> one row of the crop after the other, and each column collects its changes
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import Frame
from sam_core.machine_code import entry, inner
from sam_core.masks import plain
from sam_core.masks.batch import MaskBatch
from sam_core.masks.bilinear import Axis, Floats, Resize, axes
from sam_core.masks.candidates import Measures, object_column
from sam_core.masks.eights import bits_set, blend_near, blended_above, lowest_bit
from sam_core.masks.rle import joined, unpack_all

Integers = NDArray[np.int64]

SMALLEST = 128
"""Up to this sum of height and width, interpolate computes otherwise; `plain` costs nothing there."""
COLUMNS_AT_ONCE = 256
"""Columns of the crop in a block: a whole number of eights."""
SLACK = np.float32(1.00001)
"""An interpolated value exceeds the largest of its sources by less than this factor, which is rounding."""
NOWHERE = np.float32(-1e30)
"""Stands right of a block's columns, where no mask is."""
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


class Scratch(NamedTuple):
    """Buffers for one block of c columns after the other; l rows of logits, i of the model input, h of the crop.

    low_res  float32 [l, :], logits stretched along x to columns of the model input
    input    float32 [i, :], the model input
    blended  float32 [i + 1, c], that stretched along x to columns of the crop; NOWHERE in the last row
    before   uint32 [c / 8], whether the row above is above 0: a bit for each column, the first the lowest
    rows     int64 [c, h + 1], the rows at which each column changes
    counts   int64 [c], how many there are
    """

    low_res: Floats
    input: Floats
    blended: Floats
    before: NDArray[np.uint32]
    rows: Integers
    counts: Integers


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
    logits = logits.float().cpu().contiguous()
    row_peaks, column_peaks = (logits.amax(axis).numpy() for axis in (2, 1))
    notes, changes = _trace_all(logits.numpy(), row_peaks, column_peaks, setting, _scratch(low_res, frame))
    runs, areas = _runs(changes, notes[:, END], place.total)
    ends = notes[:, END] + np.arange(1, 1 + len(notes))
    return Measures(
        stability_score=_ratio(notes[:, INNER], notes[:, OUTER]),
        areas=areas,
        boxes=notes[:, [FIRST_COLUMN, FIRST_ROW, LAST_COLUMN, LAST_ROW]] + np.array([x0, y0, x0, y0]),
        runs=object_column(np.split(runs, ends)[: len(notes)]),
    )


def pixels(batch: MaskBatch) -> Tensor:
    """What `batch.masks()` returns, bool [N, M, crop height, crop width]; of large pictures on a CPU a dozen times
    sooner, where float32 logits are measured, as exactly as above, and their runs painted."""
    if batch.logits.device.type != "cpu" or batch.logits.dtype != torch.float32:
        return batch.masks()
    height, width = size = batch.frame.crop_size
    alone = replace(batch.frame, original_size=size, crop_box=(0, 0, width, height))
    runs = measure(batch.logits.flatten(0, 1), alone, offset=0.0).runs
    return torch.from_numpy(unpack_all(*joined(list(runs)), size)).view(*batch.logits.shape[:2], *size)


def _ratio(inner: Integers, outer: Integers) -> Floats:
    """float32 [K], as `stability_scores` divides: 0 where both are 0."""
    ratio: Floats = np.divide(inner, np.maximum(outer, 1), dtype=np.float32)
    return ratio


def _scratch(low_res: tuple[int, int], frame: Frame) -> Scratch:
    """Buffers for logits of the size `low_res` (height, width)."""
    (input_height, input_width), height = frame.input_size, frame.crop_size[0]
    return Scratch(
        low_res=np.empty((low_res[0], input_width), np.float32),
        input=np.empty((input_height, input_width), np.float32),
        blended=np.full((input_height + 1, COLUMNS_AT_ONCE), NOWHERE),
        before=np.empty(COLUMNS_AT_ONCE // 8, np.uint32),
        rows=np.empty((COLUMNS_AT_ONCE, height + 1), np.int64),
        counts=np.empty(COLUMNS_AT_ONCE, np.int64),
    )


@intrinsic  # type: ignore[untyped-decorator]
def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in float32, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return numba.float32(numba.float32, numba.float32, numba.float32), generate


@inner
def _along_x(target: Floats, source: Floats, first: int, resize: Resize, span: Span) -> None:
    """The columns of `span` of resized rows; the source begins with its column `first`."""
    origin, count = np.uint32(first), span.stop - span.start
    low, high = resize.low[span.start : span.stop] - origin, resize.high[span.start : span.stop] - origin
    low_weight = resize.low_weight[span.start : span.stop]
    high_weight = resize.high_weight[span.start : span.stop]
    for row in range(len(source)):
        line, stretched = source[row], target[row]
        start = 0
        while start + 8 <= count:
            base = min(np.int64(low[start]), np.int64(len(line) - 8))
            if base >= 0 and np.int64(high[start + 7]) < base + 8:
                blend_near(stretched, start, line, base, low, high, low_weight, high_weight)
            else:
                for i in range(start, start + 8):
                    stretched[i] = _fma(line[low[i]], low_weight[i], line[high[i]] * high_weight[i])
            start += 8
        for i in range(start, count):
            stretched[i] = _fma(line[low[i]], low_weight[i], line[high[i]] * high_weight[i])


@inner
def _along_y(target: Floats, source: Floats, first: int, resize: Resize, row: int) -> None:
    """One row of resized columns; the source begins with its row `first`."""
    low, high = source[np.int64(resize.low[row]) - first], source[np.int64(resize.high[row]) - first]
    low_weight, high_weight = resize.low_weight[row], resize.high_weight[row]
    for i in range(len(target)):
        target[i] = _fma(low[i], low_weight, high[i] * high_weight)


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
    begin, columns = n, region.columns
    note[FIRST_ROW], note[LAST_ROW], note[FIRST_COLUMN] = region.rows.stop, -1, -1
    for start in range(columns.start, columns.stop, COLUMNS_AT_ONCE):
        block = Span(start, min(start + COLUMNS_AT_ONCE, columns.stop))
        _stretch(logits, region, block, setting, scratch)
        _note_changes(region.rows, block, setting, region.input_rows.start, scratch, note)
        total = n + scratch.counts.sum()
        if total > len(changes):
            changes = np.concatenate((changes, np.empty(total, np.int64)))
        n = _append_changes(region.rows.start, block, setting.place, scratch, note, changes, begin, n)
    if note[LAST_ROW] < 0:
        note[FIRST_ROW] = note[LAST_ROW] = note[FIRST_COLUMN] = 0
    if n > begin and changes[n - 1] == setting.place.total:
        n -= 1  # the last run ends with the image, which is no change
    return changes, n


@inner
def _stretch(logits: Floats, region: Region, block: Span, setting: Setting, scratch: Scratch) -> None:
    """Fill scratch.blended with the region's rows of the model input, for the columns of a block of the crop."""
    y, x = setting.y, setting.x
    low_rows, input_rows = region.low_rows, region.input_rows
    columns = _looked_at(x.to_crop, block)
    source, width = logits[low_rows.start : low_rows.stop], columns.stop - columns.start
    _along_x(scratch.low_res, source, 0, x.to_input, columns)
    for row in range(input_rows.start, input_rows.stop):
        target = scratch.input[row - input_rows.start, :width]
        _along_y(target, scratch.low_res, low_rows.start, y.to_input, row)
    source = scratch.input[: input_rows.stop - input_rows.start]
    _along_x(scratch.blended, source, columns.start, x.to_crop, block)


@inner
def _note_changes(rows: Span, block: Span, setting: Setting, first: int, scratch: Scratch, note: Integers) -> None:
    """Every column's changes, counted from the first row of the span, and how many pixels are above the thresholds.

    scratch.blended begins with row `first` of the model input.
    """
    resize, before = setting.y.to_crop, scratch.before
    width, height = block.stop - block.start, rows.stop - rows.start
    eights = (width + 7) // 8
    scratch.blended[:, width : 8 * eights] = NOWHERE
    before[:] = 0
    scratch.counts[:] = 0
    inner, outer = np.int64(0), np.int64(0)
    # All in one function: handing the buffers on for every row costs as much as the row.
    for row in range(height + 1):
        at = rows.start + min(row, height - 1)
        low, high = (
            scratch.blended[np.int64(resize.low[at]) - first],
            scratch.blended[np.int64(resize.high[at]) - first],
        )
        if row == height:
            low = high = scratch.blended[-1]
        low_weight, high_weight = resize.low_weight[at], resize.high_weight[at]
        for eight in range(eights):
            above = blended_above(low, high, 8 * eight, low_weight, high_weight, setting.offset)
            inner += bits_set(above & np.uint32(0xFF00))
            outer += bits_set(above & np.uint32(0xFF0000))
            inside = above & np.uint32(0xFF)
            changed = inside ^ before[eight]
            if changed:
                before[eight] = inside
                while changed:
                    column = 8 * eight + lowest_bit(changed)
                    scratch.rows[column, scratch.counts[column]] = row
                    scratch.counts[column] += 1
                    changed &= changed - np.uint32(1)
    note[INNER] += inner
    note[OUTER] += outer


@inner
def _append_changes(
    top: int, block: Span, place: Place, scratch: Scratch, note: Integers, changes: Integers, begin: int, n: int
) -> int:
    """Append the changes of a block whose rows are counted from `top`, column by column; returns their number.

    Mask that goes on from the foot of the column before has no change there: the two cancel out. Changes before `begin`
    are another mask's. Extends the box in the note.
    """
    for i in range(block.stop - block.start):
        count, column = scratch.counts[i], block.start + i
        if count == 0:
            continue
        start = place.corner + column * place.height + top
        for change in range(count):
            position = start + scratch.rows[i, change]
            if n > begin and changes[n - 1] == position:
                n -= 1
            else:
                changes[n] = position
                n += 1
        note[FIRST_ROW] = min(note[FIRST_ROW], top + scratch.rows[i, 0])
        note[LAST_ROW] = max(note[LAST_ROW], top + scratch.rows[i, count - 1] - 1)
        note[FIRST_COLUMN] = column if note[FIRST_COLUMN] < 0 else note[FIRST_COLUMN]
        note[LAST_COLUMN] = column
    return n


@inner
def _region(row_peaks: Floats, column_peaks: Floats, setting: Setting) -> Region:
    """Where interpolated values can exceed -offset, from the largest logit of every row and column; empty spans if they
    cannot anywhere."""
    y, x = setting.y, setting.x
    floor = -setting.offset * SLACK
    rows = _looking_at(y.to_crop, _looking_at(y.to_input, _above(row_peaks, floor)))
    columns = _looking_at(x.to_crop, _looking_at(x.to_input, _above(column_peaks, floor)))
    if rows.start == rows.stop or columns.start == columns.stop:
        nowhere = Span(0, 0)
        return Region(nowhere, nowhere, nowhere, nowhere)
    input_rows = _looked_at(y.to_crop, rows)
    return Region(rows, columns, input_rows, _looked_at(y.to_input, input_rows))


@inner
def _above(values: Floats, floor: np.float32) -> Span:
    """From the first to the last value above `floor`; empty if none is."""
    start, stop = 0, len(values)
    while start < stop and values[start] <= floor:
        start += 1
    while stop > start and values[stop - 1] <= floor:
        stop -= 1
    return Span(start, stop)


@entry
def _trace_all(
    logits: Floats, row_peaks: Floats, column_peaks: Floats, setting: Setting, scratch: Scratch
) -> tuple[Integers, Integers]:
    """Notes int64 [K, 7] of K masks, and the positions of all their changes, one mask after the other.

    row_peaks, column_peaks: the largest logit of every row and column, [K, h] and [K, w].
    """
    notes = np.zeros((len(logits), 7), np.int64)
    # Not a literal 0, for which numba would compile everything a second time.
    changes, n = np.empty(4096, np.int64), int(np.int64(0))
    for k in range(len(logits)):
        region = _region(row_peaks[k], column_peaks[k], setting)
        if region.columns.start < region.columns.stop:
            changes, n = _trace(logits[k], region, setting, scratch, notes[k], changes, n)
        notes[k, END] = n
    return notes, changes[:n].copy()


@entry
def _runs(changes: Integers, ends: Integers, total: int) -> tuple[Integers, Integers]:
    """Run lengths of K masks in `total` pixels, one mask after the other, and their areas int64 [K].

    changes: of `_trace_all`, those of mask k up to ends[k]: each makes a run, and so does the end of the image.
    """
    runs, areas = np.empty(len(changes) + len(ends), np.int64), np.zeros(len(ends), np.int64)
    start, n = np.int64(0), 0
    for k in range(len(ends)):
        before, odd = int(np.int64(0)), int(np.int64(0))
        for change in range(start, ends[k] + 1):
            position = changes[change] if change < ends[k] else total
            runs[n] = position - before
            areas[k] += odd * runs[n]
            before, odd = position, 1 - odd
            n += 1
        start = np.int64(ends[k])
    return runs, areas
