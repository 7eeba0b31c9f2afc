"""Attention in blocks against the definition, and against the other way of computing it."""

import pytest
import torch

from sam_core.llvm_tiles import has_tiles
from sam_core.model import relative_attention
from sam_core.model.blocked_attention import attend_in_blocks
from sam_core.model.linear import with_split_products
from sam_core.model.relative_attention import RelativeAttention
from sam_core.model.tiled_attention import attend_in_tiles
from tests.released import randomise

NEEDS_TILES = pytest.mark.skipif(not has_tiles(), reason="needs a processor with AMX")


def drawn(h, w, c):
    """q, k, v, and what rows and columns of keys add, and attention by its definition in float64."""
    q, k, v = torch.randn(3, 2, h * w, c)
    by_row, by_column = 3 * torch.randn(2, h * w, h), 3 * torch.randn(2, h * w, w)
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(2)
    expected = torch.softmax((q @ k.transpose(1, 2) + bias).double(), -1) @ v.double()
    return (q, k, v, by_row, by_column), expected


@pytest.mark.parametrize(("h", "w"), [(3, 5), (16, 24), (13, 11)], ids=["one block", "whole blocks", "a rest"])
@torch.no_grad()
def test_is_softmax_of_scores_and_positions(h, w):
    given, expected = drawn(h, w, 8)
    torch.testing.assert_close(attend_in_blocks(*given).double(), expected, atol=1e-5, rtol=1e-5)


@NEEDS_TILES
@pytest.mark.parametrize("c", [32, 40])
@pytest.mark.parametrize(("h", "w"), [(16, 24), (4, 16), (32, 6)])
@torch.no_grad()
def test_in_tiles_it_is_up_to_what_is_left_out(h, w, c):
    given, expected = drawn(h, w, c)
    torch.testing.assert_close(attend_in_tiles(*given).double(), expected, atol=5e-4, rtol=0)


@torch.no_grad()
def test_large_scores_do_not_overflow():
    q = k = torch.full((1, 4, 2), 30.0)
    out = attend_in_blocks(q, k, torch.ones(1, 4, 2), torch.full((1, 4, 2), 500.0), torch.zeros(1, 4, 2))
    torch.testing.assert_close(out, torch.ones(1, 4, 2))


@torch.no_grad()
def test_a_layer_answers_the_same_either_way(monkeypatch):
    layer = RelativeAttention(32, 4, 6)
    randomise(layer, seed=0)
    x = torch.randn(2, 6, 6, 32)
    fused = layer(x)
    monkeypatch.setattr(relative_attention, "BLOCKED_FROM", 1)
    torch.testing.assert_close(layer(x), fused, atol=1e-5, rtol=1e-5)


@NEEDS_TILES
@torch.no_grad()
def test_a_layer_whose_products_are_taken_apart_answers_nearly_the_same(monkeypatch):
    monkeypatch.setattr(relative_attention, "BLOCKED_FROM", 1)
    layer = RelativeAttention(64, 2, 8)
    randomise(layer, seed=0)
    split, x, asked = with_split_products(layer), torch.randn(2, 8, 8, 64), []
    monkeypatch.setattr(
        relative_attention, "attend_in_tiles", lambda *given: asked.append(1) or attend_in_tiles(*given)
    )
    torch.testing.assert_close(split(x), layer(x), atol=5e-4, rtol=0)
    assert asked == [1]
    rest = torch.randn(2, 7, 7, 64)
    torch.testing.assert_close(split(rest), layer(rest), atol=5e-4, rtol=0)
    assert asked == [1]
