"""Attention by plain products, which training on a CPU takes, against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.model.attention import attention, learns_on_cpu


def _inputs(dtype: torch.dtype = torch.float32, narrower: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    q = torch.randn(2, 4, 12, 16, generator=generator).to(dtype)
    k = torch.randn(2, 4, 40, 16, generator=generator).to(dtype)
    v = torch.randn(2, 4, 40, 16 - narrower, generator=generator).to(dtype)
    return q, k, v


@pytest.mark.parametrize("narrower", [0, 5])
@pytest.mark.parametrize("biased", [False, True])
def test_values_and_gradients_are_those_of_torch(biased: bool, narrower: int) -> None:
    bias = torch.randn(4, 12, 40, generator=torch.Generator().manual_seed(5)) if biased else None
    found, gradients = _with_gradients(lambda q, k, v: attention(q, k, v, scale=0.3, bias=bias), narrower)
    wanted, expected = _with_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=0.3), narrower
    )
    torch.testing.assert_close(found, wanted)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(attention(*_inputs(narrower=narrower), scale=0.3, bias=bias), wanted)


def _with_gradients(attend, narrower: int):  # type: ignore[no-untyped-def]
    leaves = [x.requires_grad_() for x in _inputs(narrower=narrower)]
    out = attend(*leaves)
    out.square().sum().backward()
    return out.detach(), [leaf.grad for leaf in leaves]


def test_training_stays_in_bfloat16_and_close_to_float32() -> None:
    q, k, v = _inputs(torch.bfloat16)
    wanted = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    q.requires_grad_()
    assert learns_on_cpu(q)
    found = attention(q, k, v, scale=0.25)
    assert found.dtype == torch.bfloat16
    assert float((found.detach().float() - wanted).abs().max()) < 0.05


def test_a_model_that_is_exported_is_not_taken_for_one_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    q, _, _ = _inputs()
    assert learns_on_cpu(q.requires_grad_())
    assert not learns_on_cpu(q.detach())
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    assert not learns_on_cpu(q)
