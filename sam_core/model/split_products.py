"""Products of float32 on a CPU that multiplies matrices of bfloat16 eight times as fast: Intel's, with AMX.

A number of float32 is taken as the sum of two of bfloat16, which have 16 of its 24 bits; of the four products of two
such sums the three large ones are added in float32 (Henry, Tang and Heinecke 2019). What is left out is 3e-6 of the
result on the mean, where float32 itself rounds off 2e-7 and bfloat16 2e-3. It takes less than half the time of float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from sam_core.llvm_tiles import (
    PAIRED,
    SIDE,
    TILE_BYTES,
    add_tiles,
    begin_tiles,
    end_tiles,
    load_tile,
    store_tile,
)
from sam_core.machine_code import entry, inner
from sam_core.model.vector_math import wide_vectors

Floats = NDArray[np.float32]

STEP = 2 * SIDE
"""Rows and columns of the result that are added up at once, in four tiles; the other four hold what is multiplied."""
_LEFT_BYTES = 1 << 20
"""Rows that are multiplied at a time, as pieces: half of the second cache, which columns pass through."""
_HALF, _ONE, _HIGH, _SIXTEEN = map(np.uint32, (0x7FFF, 1, 0xFFFF0000, 16))


class Split(NamedTuple):
    """A matrix as two of bfloat16, whose bits stand tile by tile: of rows [M / 16, K / 32, 16, 32], uint16; of columns
    [N / 16, K / 32, 16, 16], uint32, two in each."""

    high: NDArray[Any]
    low: NDArray[Any]


def can_split(rows: int, columns: int) -> bool:
    """Whether x @ w.T can be taken apart for w [rows, columns]: there are whole tiles."""
    return rows % STEP == 0 and columns % PAIRED == 0


def room_for_rows(rows: int, depth: int) -> Split:
    """Memory for the left side of a product, [rows, depth]; whole steps of both."""
    return _pieces((rows // SIDE, depth // PAIRED, SIDE, PAIRED), torch.uint16)


def room_for_columns(columns: int, depth: int) -> Split:
    """Memory for its right side, [depth, columns]; whole steps of both."""
    return _pieces((columns // SIDE, depth // PAIRED, SIDE, SIDE), torch.uint32)


def _pieces(shape: tuple[int, ...], kind: torch.dtype) -> Split:
    return Split(*(torch.empty(shape, dtype=kind).numpy() for _ in range(2)))  # torch's begin with a cache line


def whole_steps(count: int) -> int:
    """The least multiple of STEP that is not less."""
    return -(-count // STEP) * STEP


def split_columns(w: Tensor) -> Split:
    """The right side of `multiply` for w [N, K], float32 and contiguous; see `can_split`."""
    pieces = room_for_columns(*w.shape)
    split_transposed(w.numpy(), pieces)
    return pieces


def multiply(x: Tensor, w: Split, bias: Tensor) -> Tensor:
    """x @ w.T + bias: x [M, K], w split [N, K], bias [N], float32 and contiguous, on a CPU for which `has_tiles`.

    Raises ValueError for another K.
    """
    rows, k = x.shape
    if k != PAIRED * w.high.shape[1]:
        raise ValueError(f"rows of {k} are multiplied with columns of {PAIRED * w.high.shape[1]}")
    whole, at_once = whole_steps(rows), max(STEP, _LEFT_BYTES // (4 * k) // STEP * STEP)
    out = x.new_empty(whole, SIDE * len(w.high))
    left = room_for_rows(min(at_once, max(whole, STEP)), k)
    _multiply(x.numpy(), left, w, bias.numpy(), out.numpy())
    return out[:rows]


@intrinsic  # type: ignore[untyped-decorator]
def _as_float(context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.float32(numba.uint32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _as_bits(context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return numba.uint32(numba.float32), generate


@inner
def _nearest(x: np.float32) -> np.float32:
    """The bfloat16 that is nearest to x, ties to even. x is a number: infinity becomes none, and so do most of what is
    none."""
    bits = _as_bits(x)
    return _as_float((bits + _HALF + ((bits >> _SIXTEEN) & _ONE)) & _HIGH)  # type: ignore[no-any-return]


@inner
def _pair(first: np.float32, second: np.float32) -> np.uint32:
    """Two of bfloat16 as float32, in one word."""
    return (_as_bits(first) >> _SIXTEEN) | _as_bits(second)  # type: ignore[no-any-return]


@entry
def split_transposed(w: Floats, pieces: Split) -> None:
    """w.T as the right side of a product, for w [N, K] with whole tiles in K; zeros follow behind N."""
    wide_vectors()
    highs, lows = np.empty((SIDE, PAIRED), np.float32), np.empty((SIDE, PAIRED), np.float32)
    for j in range(len(pieces.high)):
        rows = w[j * SIDE : (j + 1) * SIDE]
        for k in range(pieces.high.shape[1]):
            for n in range(len(rows)):
                line = rows[n, k * PAIRED : (k + 1) * PAIRED]
                for c in range(PAIRED):
                    highs[n, c] = _nearest(line[c])
                    lows[n, c] = _nearest(line[c] - highs[n, c])
            for n in range(len(rows), SIDE):
                for c in range(PAIRED):
                    highs[n, c] = lows[n, c] = np.float32(0)
            for pair in range(SIDE):
                high, low = pieces.high[j, k, pair], pieces.low[j, k, pair]
                for n in range(SIDE):
                    high[n] = _pair(highs[n, 2 * pair], highs[n, 2 * pair + 1])
                    low[n] = _pair(lows[n, 2 * pair], lows[n, 2 * pair + 1])


@entry
def split_right(x: Floats, pieces: Split) -> None:
    """x [K, N] as the right side of a product: an even number of rows, whole tiles in N; pieces beyond K rows stay as
    they are."""
    wide_vectors()
    for j in range(len(pieces.high)):
        for i in range(0, len(x), 2):
            high, low = pieces.high[j, i // PAIRED, i % PAIRED // 2], pieces.low[j, i // PAIRED, i % PAIRED // 2]
            first, second = x[i, j * SIDE : (j + 1) * SIDE], x[i + 1, j * SIDE : (j + 1) * SIDE]
            for n in range(SIDE):
                a, b = _nearest(first[n]), _nearest(second[n])
                high[n] = _pair(a, b)
                low[n] = _pair(_nearest(first[n] - a), _nearest(second[n] - b))


@entry
def split_left(x: Floats, pieces: Split) -> None:
    """x [M, K] as the left side of a product, with whole tiles in K; pieces beyond M rows stay as they are."""
    wide_vectors()
    for i in range(len(x)):
        for k in range(pieces.high.shape[1]):
            row = x[i, k * PAIRED : (k + 1) * PAIRED]
            high, low = pieces.high[i // SIDE, k, i % SIDE], pieces.low[i // SIDE, k, i % SIDE]
            for c in range(PAIRED):
                _put_halves(row[c], high, low, c)


@entry
def split_sum(x: Floats, y: Floats, pieces: Split) -> None:
    """x + y [M, K] likewise."""
    wide_vectors()
    for i in range(len(x)):
        for k in range(pieces.high.shape[1]):
            row, added = x[i, k * PAIRED : (k + 1) * PAIRED], y[i, k * PAIRED : (k + 1) * PAIRED]
            high, low = pieces.high[i // SIDE, k, i % SIDE], pieces.low[i // SIDE, k, i % SIDE]
            for c in range(PAIRED):
                _put_halves(row[c] + added[c], high, low, c)


@inner
def _put_halves(x: np.float32, high: NDArray[np.uint16], low: NDArray[np.uint16], c: int) -> None:
    nearest = _nearest(x)
    high[c] = np.uint16(_as_bits(nearest) >> _SIXTEEN)
    low[c] = np.uint16(_as_bits(_nearest(x - nearest)) >> _SIXTEEN)


@entry
def add_split(left: Split, right: Split, base: Floats, out: Floats) -> None:
    """out [M, N] = base [M, N], which may be the same, + left @ right in whole steps; between `begin_tiles` and
    `end_tiles`. Rows are contiguous."""
    depth, from_line, line = left.high.shape[1] * TILE_BYTES, base.strides[0], out.strides[0]
    for n in range(0, out.shape[1], STEP):
        for m in range(0, len(out), STEP):
            begun = base.ctypes.data + m * from_line + 4 * n
            load_tile(0, begun, from_line)
            load_tile(1, begun + 64, from_line)
            load_tile(2, begun + SIDE * from_line, from_line)
            load_tile(3, begun + SIDE * from_line + 64, from_line)
            _add_products(left, right, m // SIDE * depth, n // SIDE * depth, depth)
            _store_four(out.ctypes.data + m * line + 4 * n, line)


@entry
def put_split(left: Split, right: Split, bias: Floats, out: Floats) -> None:
    """out [M, N] = left @ right + bias [>= N] likewise."""
    depth, line = left.high.shape[1] * TILE_BYTES, out.strides[0]
    for n in range(0, out.shape[1], STEP):
        added = bias.ctypes.data + 4 * n
        for m in range(0, len(out), STEP):
            load_tile(0, added, 0)
            load_tile(1, added + 64, 0)
            load_tile(2, added, 0)
            load_tile(3, added + 64, 0)
            _add_products(left, right, m // SIDE * depth, n // SIDE * depth, depth)
            _store_four(out.ctypes.data + m * line + 4 * n, line)


@entry
def _multiply(x: Floats, left: Split, right: Split, bias: Floats, out: Floats) -> None:
    """out [>= M, N] = x [M, K] @ right + bias [N], some rows of x at a time, whose pieces are written to left."""
    wide_vectors()
    at_once = SIDE * len(left.high)
    begin_tiles()
    for top in range(0, len(out), at_once):
        split_left(x[top : top + at_once], left)
        put_split(left, right, bias, out[top : top + at_once])
    end_tiles()


@inner
def _store_four(result: int, line: int) -> None:
    """Tiles 0 to 3 as a step of a result whose rows lie so many bytes apart."""
    store_tile(0, result, line)
    store_tile(1, result + 64, line)
    store_tile(2, result + SIDE * line, line)
    store_tile(3, result + SIDE * line + 64, line)


@inner
def _add_products(left: Split, right: Split, row: int, column: int, depth: int) -> None:
    """Tiles 0 to 3 += two rows of tiles @ two columns: high and low, high and high, low and high.

    row, column: bytes to where they begin. depth: to the next one.
    """
    high, low = left.high.ctypes.data + row, left.low.ctypes.data + row
    right_high, right_low = right.high.ctypes.data + column, right.low.ctypes.data + column
    for k in range(0, depth, TILE_BYTES):
        load_tile(4, high + k, 64)
        load_tile(6, right_low + k, 64)
        load_tile(7, right_low + depth + k, 64)
        load_tile(5, high + depth + k, 64)
        _add_four()
        load_tile(6, right_high + k, 64)
        load_tile(7, right_high + depth + k, 64)
        _add_four()
        load_tile(4, low + k, 64)
        load_tile(5, low + depth + k, 64)
        _add_four()


@inner
def _add_four() -> None:
    """Tiles 0 to 3 += tiles 4 and 5 @ tiles 6 and 7."""
    add_tiles(0, 4, 6)
    add_tiles(1, 4, 7)
    add_tiles(2, 5, 6)
    add_tiles(3, 5, 7)
