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
    tile_shapes,
)
from sam_core.machine_code import entry, inner

Floats = NDArray[np.float32]
Bits = NDArray[np.uint32]

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


def split_columns(w: Tensor) -> Split:
    """The right side of `multiply` for w [N, K], float32 and contiguous; see `can_split`."""
    n, k = w.shape
    pieces = _pieces((n // SIDE, k // PAIRED, SIDE, SIDE), torch.uint32)
    _split_columns(w.numpy().view(np.uint32), *pieces)
    return pieces


def multiply(x: Tensor, w: Split, bias: Tensor) -> Tensor:
    """x @ w.T + bias: x [M, K], w split [N, K], bias [N], float32 and contiguous, on a CPU for which `has_tiles`."""
    rows, k = x.shape
    whole, at_once = -(-rows // STEP) * STEP, max(STEP, _LEFT_BYTES // (4 * k) // STEP * STEP)
    left = _pieces((min(at_once, max(whole, STEP)) // SIDE, k // PAIRED, SIDE, PAIRED), torch.uint16)
    out = x.new_empty(whole, SIDE * len(w.high))
    _multiply(x.numpy().view(np.uint32), left, w, bias.numpy(), tile_shapes(), out.numpy())
    return out[:rows]


def _pieces(shape: tuple[int, ...], kind: torch.dtype) -> Split:
    return Split(*(torch.empty(shape, dtype=kind).numpy() for _ in range(2)))  # torch's begin with a cache line


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
def _rounded(bits: np.uint32) -> np.uint32:
    """The nearest bfloat16 of a float32, ties to even, as a float32."""
    return (bits + _HALF + ((bits >> _SIXTEEN) & _ONE)) & _HIGH


@inner
def _rest(bits: np.uint32, high: np.uint32) -> np.uint32:
    """The nearest bfloat16 of what is missing."""
    return _rounded(_as_bits(_as_float(bits) - _as_float(high)))


@entry
def _split_columns(w: Bits, high: Bits, low: Bits) -> None:
    """w [N, K] as the pieces of `Split`."""
    highs, lows = np.empty((SIDE, PAIRED), np.uint32), np.empty((SIDE, PAIRED), np.uint32)
    for j in range(high.shape[0]):
        for k in range(high.shape[1]):
            for n in range(SIDE):
                row = w[j * SIDE + n, k * PAIRED : (k + 1) * PAIRED]
                for c in range(PAIRED):
                    highs[n, c] = _rounded(row[c])
                    lows[n, c] = _rest(row[c], highs[n, c])
            for pair in range(SIDE):
                for n in range(SIDE):
                    high[j, k, pair, n] = (highs[n, 2 * pair] >> _SIXTEEN) | highs[n, 2 * pair + 1]
                    low[j, k, pair, n] = (lows[n, 2 * pair] >> _SIXTEEN) | lows[n, 2 * pair + 1]


@inner
def _split_rows(x: Bits, high: NDArray[np.uint16], low: NDArray[np.uint16]) -> None:
    """x [M, K] as the pieces of `Split`; what they hold beyond M rows stays as it is."""
    for i in range(len(x)):
        for k in range(high.shape[1]):
            row = x[i, k * PAIRED : (k + 1) * PAIRED]
            highs, lows = high[i // SIDE, k, i % SIDE], low[i // SIDE, k, i % SIDE]
            for c in range(PAIRED):
                rounded = _rounded(row[c])
                highs[c] = np.uint16(rounded >> _SIXTEEN)
                lows[c] = np.uint16(_rest(row[c], rounded) >> _SIXTEEN)


@entry
def _multiply(x: Bits, left: Split, right: Split, bias: Floats, shapes: NDArray[np.uint8], out: Floats) -> None:
    """out [>= M, N] = x [M, K] @ right + bias [N], some rows of x at a time, whose pieces are written to left."""
    at_once = SIDE * len(left.high)
    for top in range(0, len(out), at_once):
        here = out[top : top + at_once]
        _split_rows(x[top : top + at_once], left.high, left.low)
        _multiply_tiles(left, right, bias, shapes, here)


@inner
def _multiply_tiles(left: Split, right: Split, bias: Floats, shapes: NDArray[np.uint8], out: Floats) -> None:
    """out [M, N] = left @ right + bias [N], by steps of 2 x 2 tiles."""
    begin_tiles(shapes.ctypes.data)
    depth = left.high.shape[1] * TILE_BYTES  # of a row of tiles
    line = out.shape[1] * 4
    for n in range(0, out.shape[1], STEP):
        added, column = bias.ctypes.data + 4 * n, n // SIDE * depth
        for m in range(0, len(out), STEP):
            result, row = out.ctypes.data + m * line + 4 * n, m // SIDE * depth
            load_tile(0, added, 0)
            load_tile(1, added + 64, 0)
            load_tile(2, added, 0)
            load_tile(3, added + 64, 0)
            _add_products(left, right, row, column, depth)
            store_tile(0, result, line)
            store_tile(1, result + 64, line)
            store_tile(2, result + SIDE * line, line)
            store_tile(3, result + SIDE * line + 64, line)
    end_tiles()


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
