# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""`tracing` in Triton: stability, box, area and run lengths straight from low-resolution logits.

One program looks at some columns of one mask in its crop. Every pixel is interpolated where it is needed, in the order
and with the roundings of `kernels`: along x and y to the model input, along x and y to the crop. Nothing is at full
size. A first launch counts; a prefix sum over the columns says where a second one, the same but for its stores, writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from sam_core.device_copies import to_device
from sam_core.geometry import Frame
from sam_core.masks.bilinear import Resize, fuses, resize
from sam_core.masks.tracing import Notes

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether kernels run in Triton's interpreter, whose fused multiply-add rounds twice: wider floats take its place."""
COLUMNS, ROWS = (128, 128) if INTERPRETED else (16, 32)
"""Pixels that a program looks at together; the interpreter takes its time by operation, not by pixel."""
SLACK = 1.00001
"""An interpolated value exceeds the largest of its sources by less than this factor, which is rounding."""
NOWHERE = 1 << 30


class _Tables(NamedTuple):
    """What the kernel reads of B crops; the first axis of a pair is rows, the second columns.

    input_at, input_weight: [2, S], sources and weights of the model input. crop_at, crop_weight: [B, 2, 2, L], those
    of the crop. place: int64 [B, 6] height and width of the crop, its first pixel's position in the original, height
    of the original and its pixels, whether the crop has its full height. seen: [B, 2, 2, side], first and end of the
    crop's positions that look at a low-resolution one.
    """

    input_at: Tensor
    input_weight: Tensor
    crop_at: Tensor
    crop_weight: Tensor
    place: Tensor
    seen: Tensor


class TritonTracer:
    """Looks at masks of crops in `frames` on a device; low_res: side of the logits."""

    def __init__(self, frames: Sequence[Frame], *, offset: float, low_res: int, device: torch.device) -> None:
        self._tables = _tables(frames, low_res, device)
        self._width = max(frame.crop_size[1] for frame in frames)
        self._offset = offset

    def notes(self, logits: Tensor, crops: Tensor) -> Notes:
        """See `Tracer`."""
        shape = (6, len(logits), self._width)
        found = torch.zeros(shape, dtype=torch.int32, device=logits.device)
        found[3] = NOWHERE
        found[4] = -1
        self._launch(logits, crops, found, torch.empty(0, dtype=torch.int64, device=logits.device), write=False)
        inner, outer, area, first, last, changes = found
        inside = area > 0
        columns = torch.stack([inside.int().argmax(1), self._width - 1 - inside.flip(1).int().argmax(1)])
        x0, x1 = columns * inside.any(1)
        y0, y1 = torch.stack([first.amin(1), last.amax(1)]) * inside.any(1)
        inner, outer, area, changed = (each.sum(1) for each in (inner, outer, area, changes))
        return Notes(torch.stack([inner, outer, area, x0, y0, x1, y1, changed], dim=1).long(), changes)

    def changes(self, logits: Tensor, crops: Tensor, notes: Notes, total: int) -> Tensor:
        """See `Tracer`."""
        ends = notes.of_column.flatten().cumsum(0)
        positions = torch.empty(total, dtype=torch.int32, device=logits.device)
        self._launch(logits, crops, positions, ends - notes.of_column.flatten(), write=True)
        return positions

    def _launch(self, logits: Tensor, crops: Tensor, found: Tensor, starts: Tensor, *, write: bool) -> None:
        if not len(logits):
            return
        tables, logits = self._tables, logits.float().contiguous()
        regions = self._regions(logits, crops)
        _trace[(triton.cdiv(self._width, COLUMNS), len(logits))](
            logits, crops, regions, *tables[:5], found, starts,
            len(logits), self._width, logits.shape[1], tables.input_at.shape[1], tables.crop_at.shape[3],
            self._offset, WRITE=write, ROWS=ROWS, COLUMNS=COLUMNS, FUSED=not INTERPRETED,
        )  # fmt: skip

    def _regions(self, logits: Tensor, crops: Tensor) -> Tensor:
        """int32 [K, 4]: first and end row, first and end column of the crop in which a mask can exceed -offset."""
        masks, side, _ = logits.shape
        regions = torch.empty(masks, 4, dtype=torch.int32, device=logits.device)
        _bound[(masks,)](
            logits, crops, self._tables.seen, regions, side, -self._offset * SLACK,
            SIDE=triton.next_power_of_2(side), ROWS=ROWS,
        )  # fmt: skip
        return regions


@triton.jit
def _bound(logits_ptr, crops_ptr, seen_ptr, regions_ptr, side, level, SIDE: tl.constexpr, ROWS: tl.constexpr):
    """Where the crop looks at low-resolution logits of one mask that exceed the level; zeros if none does."""
    k = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, SIDE)
    top, foot = side, -1
    in_column = tl.zeros([SIDE], tl.int32)
    for start in range(0, side, ROWS):
        row = start + tl.arange(0, ROWS)
        here = logits_ptr + k * side * side + row[:, None] * side + column[None, :]
        known = (row < side)[:, None] & (column < side)[None, :]
        above = (tl.load(here, mask=known, other=float("-inf")) > level).to(tl.int32)
        in_column = tl.maximum(in_column, tl.max(above, 0))
        in_row = tl.max(above, 1) > 0
        top = tl.minimum(top, tl.min(tl.where(in_row, row, side), 0))
        foot = tl.maximum(foot, tl.max(tl.where(in_row, row, -1), 0))
    left = tl.min(tl.where(in_column > 0, column, side), 0)
    right = tl.max(tl.where(in_column > 0, column, -1), 0)
    seen = seen_ptr + tl.load(crops_ptr + k) * 4 * side
    any_ = foot >= 0
    tl.store(regions_ptr + k * 4, tl.load(seen + top, mask=any_, other=0).to(tl.int32))
    tl.store(regions_ptr + k * 4 + 1, tl.load(seen + side + foot, mask=any_, other=0).to(tl.int32))
    tl.store(regions_ptr + k * 4 + 2, tl.load(seen + 2 * side + left, mask=any_, other=0).to(tl.int32))
    tl.store(regions_ptr + k * 4 + 3, tl.load(seen + 3 * side + right, mask=any_, other=0).to(tl.int32))


@triton.jit
def _fma(a, b, c, FUSED: tl.constexpr):
    """a * b + c, rounded once."""
    if FUSED:
        return tl.fma(a, b, c)
    return (a.to(tl.float64) * b.to(tl.float64) + c.to(tl.float64)).to(tl.float32)


@triton.jit
def _mix(low, low_weight, high, high_weight, FUSED: tl.constexpr):
    low, low_weight = tl.broadcast(low, low_weight)
    return _fma(low, low_weight, high * high_weight, FUSED)


@triton.jit
def _input_value(logits, t, s, at, weight, side, inputs, FUSED: tl.constexpr):
    """Values of the model input at rows t and columns s, broadcast against each other."""
    left, right = tl.load(at + s), tl.load(at + inputs + s)
    left_weight, right_weight = tl.load(weight + s), tl.load(weight + inputs + s)
    above, below = tl.load(at + t) * side, tl.load(at + inputs + t) * side
    top = _mix(tl.load(logits + above + left), left_weight, tl.load(logits + above + right), right_weight, FUSED)
    foot = _mix(tl.load(logits + below + left), left_weight, tl.load(logits + below + right), right_weight, FUSED)
    return _mix(top, tl.load(weight + t), foot, tl.load(weight + inputs + t), FUSED)


@triton.jit
def _crop_value(
    logits, r, c, input_at, input_weight, crop_at, crop_weight,
    side, inputs, length, FUSED: tl.constexpr,
):  # fmt: skip
    """Values of the crop at rows r and columns c, broadcast against each other; both must lie in the crop."""
    left, right = tl.load(crop_at + 2 * length + c), tl.load(crop_at + 3 * length + c)
    left_weight, right_weight = tl.load(crop_weight + 2 * length + c), tl.load(crop_weight + 3 * length + c)
    above, below = tl.load(crop_at + r), tl.load(crop_at + length + r)
    a = _input_value(logits, above, left, input_at, input_weight, side, inputs, FUSED)
    b = _input_value(logits, above, right, input_at, input_weight, side, inputs, FUSED)
    top = _mix(a, left_weight, b, right_weight, FUSED)
    a = _input_value(logits, below, left, input_at, input_weight, side, inputs, FUSED)
    b = _input_value(logits, below, right, input_at, input_weight, side, inputs, FUSED)
    foot = _mix(a, left_weight, b, right_weight, FUSED)
    return _mix(top, tl.load(crop_weight + r), foot, tl.load(crop_weight + length + r), FUSED)


@triton.jit(do_not_specialize=["masks", "columns", "length"])  # or it is compiled anew, by divisors, in a run
def _trace(
    logits_ptr, crops_ptr, regions_ptr, input_at, input_weight, crop_at, crop_weight,
    places_ptr, found_ptr, starts_ptr, masks, columns, side, inputs, length,
    offset, WRITE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, FUSED: tl.constexpr,
):  # fmt: skip
    """Some columns of one mask: their counts into found [6, masks, columns], or their changes from their starts on.

    A change lies between a pixel and the one before it in the original image, column by column. In a crop of full
    height the one before the first row is the last row of the column before; else there is background around.
    """
    first_column, k = tl.program_id(0) * COLUMNS, tl.program_id(1)
    crop = tl.load(crops_ptr + k)
    height, width = tl.load(places_ptr + crop * 6), tl.load(places_ptr + crop * 6 + 1)
    corner, original = tl.load(places_ptr + crop * 6 + 2), tl.load(places_ptr + crop * 6 + 3)
    total, full = tl.load(places_ptr + crop * 6 + 4), tl.load(places_ptr + crop * 6 + 5)
    row0, row1 = tl.load(regions_ptr + k * 4), tl.load(regions_ptr + k * 4 + 1)
    column0, column1 = tl.load(regions_ptr + k * 4 + 2), tl.load(regions_ptr + k * 4 + 3)
    wraps = (full == 1) & (row1 == height)
    end = tl.minimum(column1 + wraps.to(tl.int32), width)
    if (row0 < row1) & (first_column < end) & (first_column + COLUMNS > column0):
        mask_ptr = logits_ptr + k.to(tl.int64) * side * side
        at, weight = crop_at + crop * 4 * length, crop_weight + crop * 4 * length
        column = (first_column + tl.arange(0, COLUMNS))[:, None]
        mine = (column >= column0) & (column < end)
        c = tl.minimum(column, width - 1).to(tl.int32)
        here = k.to(tl.int64) * columns + column
        slot = tl.arange(0, ROWS)[None, :]
        last_row = tl.zeros([1, 1], tl.int32) + (height - 1).to(tl.int32)
        foot = _crop_value(mask_ptr, last_row, tl.maximum(c - 1, 0), input_at, input_weight, at, weight, side, inputs,
                           length, FUSED)  # fmt: skip
        carry = tl.where(foot > 0, 1, 0) * tl.where(c > 0, 1, 0) * tl.where(wraps, 1, 0) == 1
        inner, outer = tl.zeros([COLUMNS, 1], tl.int32), tl.zeros([COLUMNS, 1], tl.int32)
        area, changes = tl.zeros([COLUMNS, 1], tl.int32), tl.zeros([COLUMNS, 1], tl.int32)
        first, last = tl.full([COLUMNS, 1], 1 << 30, tl.int32), tl.full([COLUMNS, 1], -1, tl.int32)
        counted_below = tl.where(full == 0, 0, width - 1)  # columns whose change behind the last row is one of theirs
        for start in range(tl.where(wraps, 0, row0).to(tl.int32), (row1 + 1).to(tl.int32), ROWS):
            r = start + slot
            seen = mine & (r >= row0) & (r < row1)
            value = _crop_value(mask_ptr, tl.minimum(r, height - 1).to(tl.int32), c, input_at, input_weight, at, weight,
                                side, inputs, length, FUSED)  # fmt: skip
            inside = seen & (value > 0)
            was = tl.gather(inside.to(tl.int32), tl.maximum(slot - 1, 0) + column * 0, 1) == 1
            was = tl.where(slot > 0, was, carry)  # of the row before
            carry = tl.sum(tl.where(slot == ROWS - 1, inside.to(tl.int32), 0), 1)[:, None] == 1
            position = corner + column.to(tl.int64) * original + r
            counts = (r < height) | ((r == height) & (column >= counted_below))
            changed = mine & (inside != was) & (r <= row1) & counts & (position < total)
            if WRITE:
                place = tl.load(starts_ptr + here, mask=mine, other=0) + changes
                place = place + tl.cumsum(changed.to(tl.int32), 1) - 1
                tl.store(found_ptr + place, position.to(tl.int32), mask=changed)
            else:
                inner += tl.sum((seen & (value > offset)).to(tl.int32), 1)[:, None]
                outer += tl.sum((seen & (value > -offset)).to(tl.int32), 1)[:, None]
                area += tl.sum(inside.to(tl.int32), 1)[:, None]
                first = tl.minimum(first, tl.min(tl.where(inside, r, 1 << 30), 1)[:, None])
                last = tl.maximum(last, tl.max(tl.where(inside, r, -1), 1)[:, None])
            changes += tl.sum(changed.to(tl.int32), 1)[:, None]
        if not WRITE:
            plane = k.to(tl.int64) * 0 + masks * columns
            tl.store(found_ptr + here, inner, mask=mine)
            tl.store(found_ptr + plane + here, outer, mask=mine)
            tl.store(found_ptr + 2 * plane + here, area, mask=mine)
            tl.store(found_ptr + 3 * plane + here, first, mask=mine)
            tl.store(found_ptr + 4 * plane + here, last, mask=mine)
            tl.store(found_ptr + 5 * plane + here, changes, mask=mine)


def _tables(frames: Sequence[Frame], low_res: int, device: torch.device) -> _Tables:
    """The tables of B frames, which share the size of the model input."""
    (image_size,) = {frame.image_size for frame in frames}
    fused = device.type == "cuda" or fuses()
    to_input = resize(low_res, image_size, kept=image_size, fused=fused)
    length = max(max(frame.crop_size) for frame in frames)
    at = np.zeros((len(frames), 2, 2, length), np.int32)
    weight = np.zeros(at.shape, np.float32)
    place = np.zeros((len(frames), 6), np.int64)
    seen = np.zeros((len(frames), 2, 2, low_res), np.int64)
    for row, frame in enumerate(frames):
        (height, width), (x0, y0) = frame.original_size, frame.crop_box[:2]
        crop_height, crop_width = frame.crop_size
        place[row] = crop_height, crop_width, x0 * height + y0, height, height * width, crop_height == height
        for axis, (inputs, crop) in enumerate(zip(frame.input_size, frame.crop_size, strict=True)):
            _fill(at[row, axis], weight[row, axis], resize(inputs, crop, kept=crop, fused=fused))
            seen[row, axis] = _seen(low_res, image_size, inputs, crop, fused)
    input_at, input_weight = np.zeros((2, image_size), np.int32), np.zeros((2, image_size), np.float32)
    _fill(input_at, input_weight, to_input)
    return _Tables(*(to_device(each, device) for each in (input_at, input_weight, at, weight, place, seen)))


@lru_cache(maxsize=1024)  # crops of a few sizes, again and again
def _seen(low_res: int, image_size: int, inputs: int, crop: int, fused: bool) -> NDArray[np.int64]:
    """First and end position along a crop that look at each low-resolution one: [2, low_res]."""
    to_input = resize(low_res, image_size, kept=inputs, fused=fused)
    to_crop = resize(inputs, crop, kept=crop, fused=fused)
    lowest, highest = to_input.low[to_crop.low], to_input.high[to_crop.high]
    places = np.arange(low_res)
    return np.stack([np.searchsorted(highest, places, side="left"), np.searchsorted(lowest, places, side="right")])


def _fill(at: Any, weight: Any, table: Resize) -> None:
    """A resize into the first columns of [2, L] each."""
    at[:, : len(table.low)] = table.low, table.high
    weight[:, : len(table.low)] = table.low_weight, table.high_weight
