"""Products of float32 as three of bfloat16, against float64 and against torch's own rounding to bfloat16."""

import pytest
import torch
from torch import Tensor

from sam_core.llvm_tiles import has_tiles
from sam_core.model import split_products as module
from sam_core.model.split_products import (
    can_split,
    multiply,
    split_columns,
)

NEEDS_TILES = pytest.mark.skipif(not has_tiles(), reason="needs a processor with AMX")


def drawn(rows: int, columns: int, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """x, w and bias; x's scales differ from column to column by 2^20."""
    generator = torch.Generator().manual_seed(rows + columns + depth)
    x, w, bias = (torch.randn(size, generator=generator) for size in ((rows, depth), (columns, depth), (columns,)))
    scale = torch.logspace(-10, 10, depth, base=2)
    return x * scale, w / scale, bias


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest bfloat16 and that of the rest, as float64."""
    high = x.bfloat16().float()
    return high.double(), (x - high).bfloat16().double()


@NEEDS_TILES
@pytest.mark.parametrize("rows", [1, 16, 32, 33, 500])
@pytest.mark.parametrize(("columns", "depth"), [(32, 32), (96, 160), (64, 4096)])
def test_the_three_large_products(rows: int, columns: int, depth: int) -> None:
    x, w, bias = drawn(rows, columns, depth)
    found = multiply(x, split_columns(w), bias).double()
    (high, low), (w_high, w_low) = halves(x), halves(w)
    three = high @ w_high.T + high @ w_low.T + low @ w_high.T + bias
    sizes = x.abs().double() @ w.abs().double().T + bias.abs()
    assert ((found - three).abs() <= 2**-21 * sizes).all()  # of float32's sums
    assert ((found - (x.double() @ w.double().T + bias)).abs() <= 2**-15 * sizes).all()
    assert found.shape == (rows, columns)


@NEEDS_TILES
def test_sixteen_bits_beside_one_are_exact() -> None:
    x, w = torch.arange(-(1 << 15), 1 << 15, 1 << 5).view(-1, 32).float() + 1, torch.eye(32)
    assert torch.equal(multiply(x, split_columns(w), torch.zeros(32)), x)


@NEEDS_TILES
def test_rows_go_by_as_many_as_the_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, bias = drawn(200, 32, 64)
    right = split_columns(w)
    at_once = multiply(x, right, bias)
    monkeypatch.setattr(module, "_LEFT_BYTES", 64 * 4 * 64)
    assert torch.equal(multiply(x, right, bias), at_once)


@NEEDS_TILES
def test_no_rows() -> None:
    assert multiply(torch.empty(0, 32), split_columns(torch.ones(32, 32)), torch.zeros(32)).shape == (0, 32)


@NEEDS_TILES
def test_what_is_no_number_stays_none_in_its_row() -> None:
    x, w, bias = drawn(3, 32, 32)
    x[1, 5] = torch.nan
    found = multiply(x, split_columns(w), bias)
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


@pytest.mark.parametrize(
    ("shape", "whole"), [((32, 32), True), ((768, 160), True), ((48, 32), False), ((32, 48), False)]
)
def test_what_can_be_split(shape: tuple[int, int], whole: bool) -> None:
    assert can_split(*shape) is whole
