"""Compiled passes over float32 on a CPU: when they can be used, and the exponential and GELU that they are made of.

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

_LOG2_E = np.float32(1 / math.log(2))
_LN_2 = np.float32(math.log(2))
_LN_2_HIGH = np.float32(0.693359375)
"""ln 2 in nine bits, so that its product with a whole number below 2^15 is exact."""
_LN_2_LOW = np.float32(math.log(2) - 0.693359375)
_LOWEST = np.float32(-87.0)
"""exp of less would not be a normal float32."""
_ROOT_HALF = np.float32(math.sqrt(0.5))
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_T2, _T3, _T4, _T5, _T6 = (np.float32(1 / math.factorial(n)) for n in range(2, 7))
# Abramowitz and Stegun 1964, formula 7.1.26: erf to an absolute error of 1.5e-7.
_P = np.float32(0.3275911)
_A1, _A2, _A3, _A4, _A5 = (np.float32(a) for a in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429))

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
    """x * Phi(x) with the normal distribution function Phi, to an absolute error of 1e-7 * |x|."""
    z = abs(x) * _ROOT_HALF
    t = _ONE / (_ONE + _P * z)
    tail = t * (_A1 + t * (_A2 + t * (_A3 + t * (_A4 + t * _A5)))) * exp(-z * z)
    half = _HALF * x * tail
    value: np.float32 = x - half if x > _ZERO else half
    return value


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")  # type: ignore[untyped-decorator, unused-ignore]
def gelu_in_place(x: NDArray[np.float32]) -> None:
    """Overwrites x [N, C] with its GELU."""
    for row in range(x.shape[0]):
        line = x[row]
        for column in range(x.shape[1]):
            line[column] = gelu(line[column])
