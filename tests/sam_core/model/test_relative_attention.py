"""Attention with relative positions against the released layer, in values and gradients."""

from typing import Any

import pytest
import torch

from sam_core.model.relative_attention import RelativeAttention
from tests.released import import_released, randomise
from tests.sam_core.model.reference import assert_close


def same_layers(dim: int, heads: int, side: int) -> tuple[Any, RelativeAttention]:
    import_released()
    from segment_anything.modeling.image_encoder import Attention

    released, ours = (
        Attention(dim, heads, use_rel_pos=True, input_size=(side, side)),
        RelativeAttention(dim, heads, side),
    )
    randomise(released, seed=0)
    ours.load_state_dict(released.state_dict())
    return released, ours


@pytest.mark.parametrize(
    ("side", "grid"),
    [(14, (14, 14)), (5, (5, 5)), (8, (5, 5)), (4, (7, 7)), (6, (6, 4))],
    ids=["window", "odd", "larger table", "smaller table", "not square"],
)
def test_values_and_gradients(side, grid):
    released, ours = same_layers(32, 4, side)
    x = torch.randn(3, *grid, 32)
    assert_close(ours(x), released(x), tolerance=1e-5)
    weight = torch.randn(3, *grid, 32)
    (released(x) * weight).sum().backward()
    (ours(x) * weight).sum().backward()
    expected = {name: parameter.grad for name, parameter in released.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, expected[name], tolerance=1e-3)


def test_half_precision_stays_near_single():
    _, ours = same_layers(32, 4, 6)
    x = torch.randn(1, 6, 6, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = ours(x)
    assert half.dtype == torch.bfloat16
    assert_close(half.float(), ours(x).detach(), tolerance=0.2)
