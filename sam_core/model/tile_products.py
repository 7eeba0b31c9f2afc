"""Products of small matrices inside compiled loops, for a CPU.

A library of matrix products reaches half of a core's rate on the few rows that prompts have, and is called from Python
between passes that could share a cache with it. Here a tile of the result stays in registers while everything that
belongs to it is added up.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from sam_core.llvm_vectors import everywhere, fused_multiply_add
from sam_core.machine_code import cached
from sam_core.model.vector_math import wide_vectors

_FLOAT, _SIZE = ir.FloatType(), ir.IntType(64)

Floats = NDArray[np.float32]


def _tile(rows: int, columns: int) -> Any:
    """An intrinsic: out[i : i + rows, j : j + columns] += a[i : i + rows] @ b[:, j : j + columns].

    The last axis of b and out is contiguous. 6 rows of 16 columns are 12 vectors of AVX2, which has 16 registers.
    """
    vector = ir.VectorType(_FLOAT, columns)

    @intrinsic  # type: ignore[untyped-decorator]
    def add_tile(context: Any, a: Any, b: Any, out: Any, i: Any, j: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pairs = zip(signature.args[:3], arguments[:3], strict=True)
            left, right, result = (context.make_array(kind)(context, builder, value) for kind, value in pairs)
            rows_here = [builder.add(arguments[3], ir.Constant(_SIZE, row)) for row in range(rows)]
            places = [_pointer(builder, result, row, arguments[4], vector) for row in rows_here]
            sums = [cgutils.alloca_once(builder, vector) for _ in places]
            for place, total in zip(places, sums, strict=True):
                builder.store(builder.load(place, align=4), total)
            with cgutils.for_range(builder, cgutils.unpack_tuple(builder, left.shape)[1]) as loop:
                line = builder.load(_pointer(builder, right, loop.index, arguments[4], vector), align=4)
                for row, total in zip(rows_here, sums, strict=True):
                    factor = everywhere(builder, builder.load(_pointer(builder, left, row, loop.index)), columns)
                    builder.store(fused_multiply_add(builder, factor, line, builder.load(total)), total)
            for place, total in zip(places, sums, strict=True):
                builder.store(builder.load(total), place, align=4)
            return context.get_dummy_value()

        return numba.void(a, b, out, i, j), generate

    return add_tile


def _pointer(builder: Any, array: Any, row: Any, column: Any, kind: ir.Type = _FLOAT) -> Any:
    """Where array[row, column] lies, as a pointer to a kind."""
    down, right = cgutils.unpack_tuple(builder, array.strides)
    offset = builder.add(builder.mul(row, down), builder.mul(column, right))
    data = builder.bitcast(array.data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(data, [offset]), kind.as_pointer())


def _strip(columns: int) -> Any:
    """A compiled function: some columns of `add_product`, tile after tile."""
    six, four, two, one = (_tile(rows, columns) for rows in (6, 4, 2, 1))

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def add_strip(a: Floats, b: Floats, out: Floats, j: int) -> None:
        rows = len(out)
        for i in range(0, rows - 5, 6):
            six(a, b, out, i, j)
        i = rows - rows % 6
        if i + 4 <= rows:
            four(a, b, out, i, j)
            i += 4
        if i + 2 <= rows:
            two(a, b, out, i, j)
            i += 2
        if i < rows:
            one(a, b, out, i, j)

    return add_strip


_add_sixteen, _add_eight = _strip(16), _strip(8)


@cached()
def add_product(a: Floats, b: Floats, out: Floats) -> None:
    """out [M, N] += a [M, K] @ b [K, >= N]; N is a multiple of 8, and the last axis of b and out contiguous."""
    wide_vectors()
    columns = out.shape[1]
    for j in range(0, columns - 15, 16):
        _add_sixteen(a, b, out, j)
    if columns & 8:
        _add_eight(a, b, out, columns - 8)


@cached()
def fill(x: Floats, value: np.float32) -> None:
    """x[:, :] = value, which numba takes longer to compile."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = value


@cached()
def transpose(x: Floats, out: Floats) -> None:
    """out[:, :] = x.T, without more memory."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j, i] = x[i, j]


@cached()
def columns_of(rows: Floats) -> Floats:
    """Rows [P, C] as columns [C, P], zeros behind them up to a multiple of 8."""
    columns = np.zeros((rows.shape[1], (len(rows) + 7) // 8 * 8), np.float32)
    transpose(rows, columns)
    return columns


def as_array(x: Tensor) -> Floats:
    """A float32 tensor on the CPU, contiguous: one version of a compiled function will do."""
    array: Floats = x.contiguous().numpy()
    return array
