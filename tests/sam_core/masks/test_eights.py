"""Eight at a time against one by one in NumPy, with the instruction for it and without."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sam_core.machine_code import entry
from sam_core.masks.eights import bits_set, blend_near, blended_above, lowest_bit

Floats = np.ndarray[Any, np.dtype[np.float32]]


@entry
def _blend(target: Floats, source: Floats, base: int, low: Any, high: Any, weights: Floats) -> None:
    blend_near(target, 3, source, base, low, high, weights, weights)


@entry
def _above(low: Floats, high: Floats, at: int, offset: np.float32) -> np.uint32:
    return blended_above(low, high, at, np.float32(0.25), np.float32(0.75), offset)


@entry
def _count(bits: np.uint32) -> tuple[int, int]:
    return bits_set(bits), lowest_bit(bits)


def check_blend() -> None:
    random = np.random.default_rng(0)
    source, weights = random.normal(size=20).astype(np.float32), np.full(12, 0.5, np.float32)
    low, high = random.integers(4, 12, (2, 12)).astype(np.uint32)
    target = np.zeros(12, np.float32)
    _blend(target, source, 4, low, high, weights)
    assert target[3:11].tolist() == ((source[low] + source[high]) / 2)[3:11].tolist()
    assert not target[[0, 1, 2, 11]].any()


def check_above() -> None:
    low, high = np.random.default_rng(1).normal(size=(2, 16)).astype(np.float32)
    values = (low / 4 + high * np.float32(0.75))[5:13]
    expected = sum(
        int(value > level) << (8 * place + i)
        for place, level in enumerate((0.0, 0.5, -0.5))
        for i, value in enumerate(values)
    )
    assert _above(low, high, 5, np.float32(0.5)) == expected


@pytest.mark.parametrize("check", [check_blend, check_above])
def test_as_one_by_one(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("check", ["check_blend", "check_above"])
def test_on_a_cpu_without_permutations(check: str) -> None:
    code = f"from {__name__} import {check}; {check}()"
    subprocess.run([sys.executable, "-c", code], env={"NUMBA_CPU_NAME": "generic", "PYTHONPATH": "."}, check=True)


@pytest.mark.parametrize("bits", [1, 0b1000, 0xFF00, 0x80000000, 0xFFFFFFFF])
def test_bits(bits: int) -> None:
    assert _count(np.uint32(bits)) == (bits.bit_count(), (bits & -bits).bit_length() - 1)
