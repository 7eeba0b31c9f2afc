"""Tiles of Intel's processors: who has them, and a product by them against NumPy's."""

import ctypes
import sys
from collections.abc import Iterator

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from sam_core import llvm_tiles as module
from sam_core.llvm_tiles import add_tiles, begin_tiles, end_tiles, has_tiles, load_tile, store_tile


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor and a system that have them."""
    monkeypatch.setattr(module, "get_host_cpu_features", lambda: {"amx-tile": True, "amx-bf16": True})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _System(0))
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("CPU_NAME", "CPU_FEATURES"):
        monkeypatch.setattr(numba.config, name, None)
    has_tiles.cache_clear()
    yield
    has_tiles.cache_clear()


class _System:
    """Answers every request in one way."""

    def __init__(self, answer: int) -> None:
        self._answer = answer

    def syscall(self, *request: int) -> int:
        assert request == (158, 0x1023, 18)
        return self._answer


@pytest.mark.usefixtures("able")
def test_where_processor_and_system_have_them() -> None:
    assert has_tiles()


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("missing", ["amx-tile", "amx-bf16"])
def test_not_on_another_processor(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setattr(module, "get_host_cpu_features", lambda: {"amx-tile": True, "amx-bf16": True, missing: False})
    assert not has_tiles()


@pytest.mark.usefixtures("able")
def test_not_where_the_system_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _System(-1))
    assert not has_tiles()


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(("name", "value"), [("CPU_NAME", "generic"), ("CPU_FEATURES", "+avx2")])
def test_not_in_machine_code_for_another_processor(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setattr(numba.config, name, value)
    assert not has_tiles()


@pytest.mark.usefixtures("able")
def test_only_where_the_number_of_the_request_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not has_tiles()


@numba.njit  # type: ignore[untyped-decorator]
def _product(
    first: NDArray[np.float32],
    left: NDArray[np.uint16],
    right: NDArray[np.uint16],
    out: NDArray[np.float32],
) -> None:
    begin_tiles()
    load_tile(0, first.ctypes.data, 0)
    load_tile(1, left.ctypes.data, 64)
    load_tile(2, right.ctypes.data, 64)
    add_tiles(0, 1, 2)
    store_tile(0, out.ctypes.data, 128)
    end_tiles()


@pytest.mark.skipif(not has_tiles(), reason="needs a processor with AMX")
def test_a_product_of_tiles() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(-9, 10, (16, 32)), rng.integers(-9, 10, (32, 16))
    first, out = rng.normal(size=16).astype(np.float32), np.full((16, 32), 7, np.float32)
    pairs = right.reshape(16, 2, 16).swapaxes(1, 2)
    _product(first, _bfloat16(left), _bfloat16(pairs), out)
    np.testing.assert_allclose(out[:, :16], left @ right + first, rtol=1e-6, atol=1e-5)
    assert (out[:, 16:] == 7).all()


def _bfloat16(x: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Small whole numbers, which are exact."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return (bits >> 16).astype(np.uint16)
