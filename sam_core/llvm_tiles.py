"""The matrix tiles of Intel's processors (AMX, from Sapphire Rapids on) as intrinsics, for which numba has no names.

A tile is 16 rows of 64 bytes, one of eight that every thread has: 16 x 16 numbers of float32, or 16 x 32 of bfloat16.
Addresses and distances are in bytes, tiles are said as literals, and what is done must be true: nothing is checked.
"""

import ctypes
import sys
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

SIDE = 16
"""Rows of a tile, and numbers of float32 in a row."""
PAIRED = 32
"""Numbers of bfloat16 in a row."""
TILE_BYTES = 1024

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
"""Of Linux on x86-64: asm/unistd_64.h, asm/prctl.h and the number of the tiles' state."""
_BYTE, _SIZE = ir.IntType(8), ir.IntType(64)


@cache
def has_tiles() -> bool:
    """Whether this processor multiplies tiles of bfloat16 and the system lets this process do so, for which it is asked
    here: before that the first instruction would end the process."""
    if sys.platform != "linux":
        return False
    features = get_host_cpu_features()
    if not (features.get("amx-tile") and features.get("amx-bf16")):
        return False
    if numba.config.CPU_NAME or numba.config.CPU_FEATURES:  # somebody says what machine code shall be made for
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


def tile_shapes() -> NDArray[np.uint8]:
    """What `begin_tiles` is given: all eight tiles as large as they can be."""
    shapes = np.zeros(64, np.uint8)
    shapes[0] = 1  # the palette
    shapes[16:32:2], shapes[48:56] = 64, SIDE  # bytes of a row, of two bytes each; rows
    return shapes


def _call(builder: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _number(literal: Any) -> Any:
    return ir.Constant(_BYTE, literal.literal_value)


def _place(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _BYTE.as_pointer())


@intrinsic  # type: ignore[untyped-decorator]
def begin_tiles(context: Any, shapes: Any) -> Any:
    """Makes the thread's tiles ready; shapes is where `tile_shapes` lie."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "ldtilecfg", _place(builder, arguments[0]))
        return context.get_dummy_value()

    return numba.void(numba.intp), generate


@intrinsic  # type: ignore[untyped-decorator]
def end_tiles(context: Any) -> Any:
    """Gives them back, so that the system need not keep them when threads change."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return numba.void(), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def load_tile(context: Any, tile: Any, address: Any, distance: Any) -> Any:
    """tile = 16 rows that lie so far apart; with 0 the same row 16 times."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "tileloadd64", _number(tile), _place(builder, arguments[1]), arguments[2])
        return context.get_dummy_value()

    return numba.void(tile, numba.intp, numba.intp), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def store_tile(context: Any, tile: Any, address: Any, distance: Any) -> Any:
    """16 rows that lie so far apart = tile."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "tilestored64", _number(tile), _place(builder, arguments[1]), arguments[2])
        return context.get_dummy_value()

    return numba.void(tile, numba.intp, numba.intp), generate


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def add_tiles(context: Any, total: Any, left: Any, right: Any) -> Any:
    """total, float32 [16, 16], += left, bfloat16 [16, 32], @ right, which holds pairs of rows, [16, 16, 2]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "tdpbf16ps", _number(total), _number(left), _number(right))
        return context.get_dummy_value()

    return numba.void(total, left, right), generate
