"""Attention in blocks against the definition, and against the other way of computing it."""

import pytest
import torch

from sam_core.model import relative_attention
from sam_core.model.blocked_attention import attend_in_blocks
from sam_core.model.relative_attention import RelativeAttention
from tests.released import randomise


@pytest.mark.parametrize(("h", "w"), [(3, 5), (16, 24), (13, 11)], ids=["one block", "whole blocks", "a rest"])
@torch.no_grad()
def test_is_softmax_of_scores_and_positions(h, w):
    q, k, v = torch.randn(3, 2, h * w, 8)
    by_row, by_column = 3 * torch.randn(2, h * w, h), 3 * torch.randn(2, h * w, w)
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(2)
    expected = torch.softmax((q @ k.transpose(1, 2) + bias).double(), -1) @ v.double()
    torch.testing.assert_close(attend_in_blocks(q, k, v, by_row, by_column).double(), expected, atol=1e-5, rtol=1e-5)


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
