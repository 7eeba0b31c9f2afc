"""The windowed attention kernel against windows cut out in torch; without a GPU in Triton's interpreter."""

import pytest
import torch

from sam_core.model.relative_attention import RelativeAttention, attend_layer


def layer_of(width: int, heads: int, size: int) -> RelativeAttention:
    """With relative positions that matter."""
    layer = RelativeAttention(width * heads, heads, size)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return layer.requires_grad_(False)


@pytest.mark.parametrize(
    ("h", "w", "width", "size"), [(6, 6, 16, 3), (7, 5, 20, 4), (5, 9, 24, 5), (14, 14, 80, 14), (20, 17, 64, 14)]
)
def test_equals_windows_in_torch(kernel_device: torch.device, h: int, w: int, width: int, size: int) -> None:
    from sam_core.model.triton_window_attention import in_windows

    torch.manual_seed(0)
    layer, x = layer_of(width, 2, size).to(kernel_device), 0.3 * torch.randn(2, h, w, 2 * width).to(kernel_device)
    qkv = layer.qkv(x)
    ours = in_windows(qkv, layer.qkv.bias, layer.rel_pos_h, layer.rel_pos_w, 2, size)
    assert torch.allclose(ours, attend_layer(layer, qkv, size), rtol=1e-4, atol=1e-5)


def test_tables_of_another_size_are_resized(kernel_device: torch.device) -> None:
    """As for a model at another input size; and a layer in float32 beside queries that are rounded."""
    from sam_core.model.triton_attention import attend_triton

    torch.manual_seed(0)
    layer = layer_of(16, 2, 5).to(kernel_device)
    qkv = torch.randn(1, 6, 7, 96).to(kernel_device)
    assert torch.allclose(attend_triton(layer, qkv, 3), attend_layer(layer, qkv, 3), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("width", "heads"), [(64, 12), (80, 16)])
def test_bfloat16_on_a_gpu(width: int, heads: int) -> None:
    """At the windows and head widths of the released models."""
    from sam_core.model.triton_window_attention import in_windows

    torch.manual_seed(0)
    layer = layer_of(width, heads, 14).cuda().bfloat16()
    qkv = torch.randn(2, 64, 64, 3 * heads * width, device="cuda").bfloat16()
    ours = in_windows(qkv, layer.qkv.bias, layer.rel_pos_h, layer.rel_pos_w, heads, 14)
    exact = attend_layer(layer.float(), qkv.float(), 14)
    assert float((ours - exact).norm() / exact.norm()) < 0.02
