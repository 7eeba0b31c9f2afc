"""Compiled passes over float32 on a CPU: when they can be used, and what they are made of.

LLVM makes vectors of these. Without a vector library it calls the C library for every single value, five times slower.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import torch
from numba.extending import intrinsic
from numpy.typing import NDArray

from sam_core.machine_code import cached, reordered

_LOG2_E = np.float32(1 / math.log(2))
_LN_2_HIGH = np.float32(0.693359375)
"""ln 2 in nine bits, so that its product with a whole number below 2^15 is exact."""
_LN_2_LOW = np.float32(math.log(2) - 0.693359375)
_LOWEST = np.float32(-87.0)
"""exp of less would not be a normal float32."""
_HALF, _ONE = np.float32(0.5), np.float32(1)
_T2, _T3, _T4, _T5, _T6 = (np.float32(1 / math.factorial(n)) for n in range(2, 7))
_LAST = np.float32(5.16188)
"""2 * Phi(x) - 1 is 1 from here on, within float32."""
_SQUARED = np.float32(2 / float(_LAST) ** 2)
# (2 * Phi(x) - 1) / x as a polynomial in 2 * (x / _LAST)^2 - 1, which lies in -1..1: least squares on Chebyshev nodes,
# weighted anew until the largest error of the numerator was as small as it gets.
_E0, _E1, _E2, _E3 = map(np.float32, (0.27390078, -0.13643976, 0.100626744, -0.080087356))
_E4, _E5, _E6, _E7 = map(np.float32, (0.063838154, -0.049002115, 0.035314362, -0.024316987))
_E8, _E9, _E10, _E11 = map(np.float32, (0.016366525, -0.009089625, 0.0034800887, -0.0022873855))
_E12, _E13 = map(np.float32, (0.0022792045, -0.000854816))

_inlined = numba.njit(nogil=True, fastmath={"contract", "nsz"}, error_model="numpy")


def can_compile(x: torch.Tensor) -> bool:
    """Whether compiled passes can work on a tensor: float32 on the CPU, without gradients and without autocast."""
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))


@intrinsic  # type: ignore[untyped-decorator]
def _as_float(context: Any, bits: Any) -> Any:
    """The float32 that has the bits of an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(numba.float32))

    return numba.float32(numba.int32), generate


@intrinsic  # type: ignore[untyped-decorator]
def wide_vectors(context: Any) -> Any:
    """Have LLVM use vectors of 512 bits in the function that calls this, where the CPU has them.

    It prefers half of that for the clock's sake on most CPUs; but here matrix products come before and after.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # llvmlite's own `add` knows fewer
        return context.get_dummy_value()

    return numba.void(), generate


@_inlined  # type: ignore[untyped-decorator]
def exp(x: np.float32) -> np.float32:
    """e^x for x up to 88, to a relative error of 3e-7; below -87 as at -87."""
    x = max(x, _LOWEST)
    whole = np.floor(x * _LOG2_E + _HALF)
    f = (x - whole * _LN_2_HIGH) - whole * _LN_2_LOW
    series = _ONE + f * (_ONE + f * (_T2 + f * (_T3 + f * (_T4 + f * (_T5 + f * _T6)))))
    power: np.float32 = series * _as_float(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))
    return power


@_inlined  # type: ignore[untyped-decorator]
def gelu(x: np.float32) -> np.float32:
    """x * Phi(x) with the normal distribution function Phi, to an absolute error of 2e-7 * |x|."""
    z = min(max(x, -_LAST), _LAST)
    t = z * z * _SQUARED - _ONE
    even = _E8 + t * (_E9 + t * (_E10 + t * (_E11 + t * (_E12 + t * _E13))))
    even = _E0 + t * (_E1 + t * (_E2 + t * (_E3 + t * (_E4 + t * (_E5 + t * (_E6 + t * (_E7 + t * even)))))))
    half = _HALF * x
    value: np.float32 = half + half * (z * even)
    return value


@cached(fastmath={"contract", "nsz"}, error_model="numpy")
def gelu_in_place(x: NDArray[np.float32]) -> None:
    """Overwrites x [N, C] with its GELU."""
    wide_vectors()
    for row in range(x.shape[0]):
        line = x[row]
        for column in range(x.shape[1]):
            line[column] = gelu(line[column])


@reordered
def norm_in_place(
    line: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32], eps: np.float32
) -> None:
    """Overwrites a line [> C] with its layer norm over C."""
    channels = len(weight)
    total = np.float32(0)
    for c in range(channels):
        total += line[c]
    mean = total / np.float32(channels)
    square = np.float32(0)
    for c in range(channels):
        distance = line[c] - mean
        square += distance * distance
    scale = np.float32(1) / np.sqrt(square / np.float32(channels) + eps)
    for c in range(channels):
        line[c] = (line[c] - mean) * scale * weight[c] + bias[c]
