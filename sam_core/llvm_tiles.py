"""The matrix tiles of Intel's processors (AMX, from Sapphire Rapids on) as intrinsics, for which numba has no names.

A tile is 16 rows of 64 bytes, one of eight that every thread has: 16 x 16 numbers of float32, or 16 x 32 of bfloat16.
Addresses and distances are in bytes, tiles are said as literals, and what is done must be true: nothing is checked.
"""

import ctypes
import sys
from functools import cache
from typing import Any

import numba
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils
from numba.extending import intrinsic

SIDE = 16
"""Rows of a tile, and numbers of float32 in a row."""
PAIRED = 32
"""Numbers of bfloat16 in a row."""
TILE_BYTES = 1024

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18
"""Of Linux on x86-64: asm/unistd_64.h, asm/prctl.h and the number of the tiles' state."""
_BYTE = ir.IntType(8)


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


def _shapes() -> bytes:
    """What all eight tiles are to be, as the processor is told: as large as they can be."""
    shapes = bytearray(64)
    shapes[0] = 1  # the palette
    shapes[16:32:2], shapes[48:56] = bytes([64] * 8), bytes([SIDE] * 8)  # bytes of a row, of two bytes each; rows
    return bytes(shapes)


def _call(builder: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _number(literal: Any) -> Any:
    return ir.Constant(_BYTE, literal.literal_value)


@intrinsic  # type: ignore[untyped-decorator]
def begin_tiles(context: Any) -> Any:
    """Makes the thread's tiles ready."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        shapes = cgutils.global_constant(builder, "tile_shapes", cgutils.make_bytearray(_shapes()))
        _call(builder, "ldtilecfg", builder.bitcast(shapes, _BYTE.as_pointer()))
        return context.get_dummy_value()

    return numba.void(), generate


@intrinsic  # type: ignore[untyped-decorator]
def end_tiles(context: Any) -> Any:
    """Gives them back, so that the system need not keep them when threads change."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return numba.void(), generate


def _move(name: str) -> Any:
    """An intrinsic (tile, address, distance) between a tile and 16 rows that lie so far apart."""

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def move(context: Any, tile: Any, address: Any, distance: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _call(builder, name, _number(tile), builder.inttoptr(arguments[1], _BYTE.as_pointer()), arguments[2])
            return context.get_dummy_value()

        return numba.void(tile, numba.intp, numba.intp), generate

    return move


load_tile = _move("tileloadd64")
"""tile = rows; with a distance of 0 the same row 16 times."""
store_tile = _move("tilestored64")
"""rows = tile."""


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def add_tiles(context: Any, total: Any, left: Any, right: Any) -> Any:
    """total, float32 [16, 16], += left, bfloat16 [16, 32], @ right, which holds pairs of rows, [16, 16, 2]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _call(builder, "tdpbf16ps", _number(total), _number(left), _number(right))
        return context.get_dummy_value()

    return numba.void(total, left, right), generate
