"""FlexAttention against the attention with position channels; on a CPU as torch computes it without its kernel."""

import pytest
import torch

from sam_core.model.flex_attention import attend_flex
from sam_core.model.relative_attention import attend


def inputs(h: int, w: int, *, width: int = 16) -> list[torch.Tensor]:
    shapes = [(2, 3, h * w, width)] * 3 + [(h, h, width), (w, w, width)]
    return [torch.randn(shape) for shape in shapes]


@pytest.mark.parametrize(("h", "w"), [(4, 4), (3, 5), (14, 14)])
def test_equals_the_attention_with_position_channels(h: int, w: int) -> None:
    given = inputs(h, w)
    assert torch.allclose(attend_flex(*given), attend(*given), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("side", "width"), [(14, 80), (64, 80), (14, 64), (64, 64)])
def test_the_kernel_equals_it_on_a_gpu(side: int, width: int) -> None:
    """At the grids and head widths of the released models."""
    given = [x.cuda().bfloat16() for x in inputs(side, side, width=width)]
    exact = attend(*(x.double() for x in given)) if side < 64 else attend(*(x.float() for x in given))
    ours = torch.compile(attend_flex, dynamic=False)(*given)
    assert float((ours - exact).norm() / exact.norm()) < 0.02
