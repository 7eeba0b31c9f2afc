"""Attention window by window against windows cut out and attended to in torch, which gradients take."""

import pytest
import torch

from sam_core.model.relative_attention import RelativeAttention, attend_layer
from tests.released import randomise


@pytest.mark.parametrize(
    ("h", "w", "heads", "size"),
    [(6, 6, 2, 3), (7, 5, 3, 4), (9, 20, 1, 5), (30, 17, 2, 14)],
    ids=["whole windows", "beyond the grid", "one head", "the released size"],
)
def test_equals_windows_in_torch(h: int, w: int, heads: int, size: int) -> None:
    layer = RelativeAttention(8 * heads, heads, size)
    randomise(layer, seed=0)
    x = torch.randn(2, h, w, 8 * heads)
    with torch.no_grad():
        ours = attend_layer(layer, layer.qkv(x), size)
    theirs = attend_layer(layer, layer.qkv(x), size)
    assert theirs.requires_grad
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_large_scores_do_not_overflow() -> None:
    layer = RelativeAttention(8, 1, 2)
    qkv = torch.full((1, 2, 2, 24), 30.0)
    torch.testing.assert_close(attend_layer(layer, qkv, 2), torch.full((1, 2, 2, 8), 30.0))


@torch.no_grad()
def test_tables_of_another_size_are_resized() -> None:
    layer = RelativeAttention(16, 2, 5)
    randomise(layer, seed=1)
    qkv = torch.randn(1, 6, 7, 48)
    exact = attend_layer(layer.double(), qkv.double(), 3)
    torch.testing.assert_close(attend_layer(layer.float(), qkv, 3).double(), exact, atol=1e-5, rtol=1e-5)
