"""Linear layers by oneDNN: those of torch, where they may be."""

import pytest
import torch
from torch import nn

from sam_core.model import linear as module
from sam_core.model.linear import has_faster_products, linear

NEEDS_ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs a torch with oneDNN")


@pytest.fixture
def on_amd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(module, "has_faster_products", lambda: True)


@NEEDS_ONEDNN
@pytest.mark.usefixtures("on_amd")
@pytest.mark.parametrize("shape", [(1, 5, 7, 48), (33, 48), (2, 0, 48)])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_the_same_as_the_layer(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = nn.Linear(48, 40, bias=bias), torch.randn(shape)
    torch.testing.assert_close(linear(layer, x), layer(x))
    strided = torch.randn(*shape[:-1], 96)[..., ::2]
    torch.testing.assert_close(linear(layer, strided), layer(strided))


@pytest.mark.usefixtures("on_amd")
def test_gradients_and_other_precisions_take_the_layer() -> None:
    layer, x = nn.Linear(8, 8), torch.randn(3, 8)
    linear(layer, x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert linear(layer, x).dtype == torch.bfloat16


@pytest.mark.parametrize(("cpu", "faster"), [("znver4", True), ("znver3", False), ("sapphirerapids", False)])
def test_only_on_processors_like_the_measured_one(monkeypatch: pytest.MonkeyPatch, cpu: str, faster: bool) -> None:
    monkeypatch.setattr(module, "get_host_cpu_name", lambda: cpu)
    has_faster_products.cache_clear()
    assert has_faster_products() is (faster and torch.backends.mkldnn.is_available())
    has_faster_products.cache_clear()
