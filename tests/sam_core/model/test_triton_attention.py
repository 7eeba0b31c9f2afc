"""The attention kernel against the attention with position channels; without a GPU in Triton's interpreter."""

from itertools import product

import pytest
import torch
from torch import Tensor

from sam_core.model.relative_attention import attend, position_terms


def inputs(h: int, w: int, *, width: int, heads: int = 2) -> list[Tensor]:
    """q, k, v as the encoder hands them over, which is not contiguous, and the relative positions."""
    q, k, v = torch.randn(1, h * w, 3, heads, width).permute(2, 0, 3, 1, 4)
    return [q, k, v, torch.randn(h, h, width), torch.randn(w, w, width)]


@pytest.mark.parametrize(("h", "w", "width"), [(4, 4, 16), (3, 5, 20), (16, 16, 8), (9, 20, 24)])
def test_equals_the_attention_with_position_channels(kernel_device: torch.device, h: int, w: int, width: int) -> None:
    from sam_core.model.triton_attention import on_large_grid

    given = [x.to(kernel_device) for x in inputs(h, w, width=width)]
    ours = on_large_grid(*given[:3], *position_terms(given[0], *given[3:]))
    assert torch.allclose(ours, attend(*given), rtol=1e-4, atol=1e-5)


def test_small_grids_go_the_other_way() -> None:
    pytest.importorskip("triton")
    from sam_core.model.triton_attention import attend_triton

    given = inputs(4, 4, width=8)
    assert torch.equal(attend_triton(*given), attend(*given))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("side", "width"), list(product((24, 64), (32, 64, 80))))
def test_bfloat16_on_a_gpu(side: int, width: int) -> None:
    """At the grids and head widths of the models, compiled as the encoder is."""
    from sam_core.model.triton_attention import on_large_grid

    given = [x.cuda().bfloat16() for x in inputs(side, side, width=width)]
    exact = attend(*(x.float() for x in given))

    def run(q: Tensor, k: Tensor, v: Tensor, along_h: Tensor, along_w: Tensor) -> Tensor:
        return on_large_grid(q, k, v, *position_terms(q, along_h, along_w))

    ours = torch.compile(run, dynamic=False)(*given)
    assert float((ours - exact).norm() / exact.norm()) < 0.02
