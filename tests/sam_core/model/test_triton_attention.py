"""The attention kernel against the attention with position channels; without a GPU in Triton's interpreter."""

from itertools import product

import pytest
import torch
from torch import Tensor

from sam_core.model.relative_attention import RelativeAttention, attend_grid, attend_layer, position_terms, split


def inputs(h: int, w: int, *, width: int, heads: int = 2) -> tuple[RelativeAttention, Tensor]:
    """A layer with relative positions that matter, and its queries, keys and values."""
    layer = RelativeAttention(width * heads, heads, max(h, w)).requires_grad_(False)
    for table in (layer.rel_pos_h, layer.rel_pos_w):
        torch.nn.init.normal_(table)
    return layer, torch.randn(1, h, w, 3 * heads * width)


def by_kernel(layer: RelativeAttention, qkv: Tensor) -> Tensor:
    """The kernel, also where the grid is small."""
    from sam_core.model.triton_attention import on_large_grid

    q, _, _, along_h, along_w = split(layer, qkv)
    ours: Tensor = on_large_grid(qkv, *position_terms(q, along_h, along_w))
    return ours


@pytest.mark.parametrize(("h", "w", "width"), [(4, 4, 16), (3, 5, 20), (16, 16, 8), (9, 20, 24)])
def test_equals_the_attention_with_position_channels(kernel_device: torch.device, h: int, w: int, width: int) -> None:
    layer, qkv = inputs(h, w, width=width)
    ours = by_kernel(layer.to(kernel_device), qkv.to(kernel_device))
    assert torch.allclose(ours, attend_grid(layer, qkv.to(kernel_device)), rtol=1e-4, atol=1e-5)


def test_small_grids_go_the_other_way() -> None:
    pytest.importorskip("triton")
    from sam_core.model.triton_attention import attend_triton

    layer = RelativeAttention(16, 2, 4)
    qkv = torch.randn(1, 4, 4, 48)
    assert torch.equal(attend_triton(layer, qkv, 0), attend_layer(layer, qkv, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("side", "width"), list(product((24, 64), (32, 64, 80))))
def test_bfloat16_on_a_gpu(side: int, width: int) -> None:
    """At the grids and head widths of the models, compiled as the encoder is."""
    layer, qkv = inputs(side, side, width=width)
    exact = attend_grid(layer.cuda().float(), qkv.cuda().bfloat16().float())
    ours = torch.compile(by_kernel, dynamic=False)(layer.bfloat16(), qkv.cuda().bfloat16())
    assert float((ours - exact).norm() / exact.norm()) < 0.02
