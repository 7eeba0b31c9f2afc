"""Linear layers by oneDNN and by tiles: those of torch, where they may be."""

from copy import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from sam_core.llvm_tiles import has_tiles
from sam_core.model import linear as module
from sam_core.model.layers import MLPBlock
from sam_core.model.linear import SplitLinear, has_faster_products, linear, with_split_products

NEEDS_ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs a torch with oneDNN")


NEEDS_TILES = pytest.mark.skipif(not has_tiles(), reason="needs a processor with AMX")


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


@NEEDS_TILES
@pytest.mark.parametrize("shape", [(1, 5, 7, 96), (33, 96), (2, 0, 96)])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_split_the_same_up_to_what_is_left_out(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = nn.Linear(96, 64, bias=bias), torch.randn(shape)
    split = with_split_products(layer)
    assert isinstance(split, SplitLinear)
    torch.testing.assert_close(linear(split, x), layer(x), rtol=0, atol=2e-5)
    strided = torch.randn(*shape[:-1], 192)[..., ::2]
    torch.testing.assert_close(linear(split, strided), layer(strided), rtol=0, atol=2e-5)


@NEEDS_TILES
@torch.no_grad()
def test_a_split_model_has_the_parameters_of_the_first_and_leaves_it_as_it_is() -> None:
    block = MLPBlock(32, 64, nn.GELU)
    split = with_split_products(block)
    x, exact = torch.randn(600, 32), block(torch.ones(1, 32))
    assert [id(p) for p in split.parameters()] == [id(p) for p in block.parameters()]
    torch.testing.assert_close(split(x), block(x), rtol=0, atol=1e-5)
    assert not torch.equal(split(x), block(x))
    block.lin1.weight.mul_(2)
    torch.testing.assert_close(split(x), block(x), rtol=0, atol=3e-5)
    block.lin1.weight.div_(2)
    assert torch.equal(block(torch.ones(1, 32)), exact)
    assert type(block.lin1) is nn.Linear


@NEEDS_TILES
@pytest.mark.parametrize("bias", [torch.arange(128.0)[::2], torch.tensor([7.0]).expand(64)])
@torch.no_grad()
def test_split_with_a_bias_and_weights_that_lie_apart(bias: Tensor) -> None:
    layer, x = nn.Linear(96, 64), torch.randn(5, 96)
    layer.bias, layer.weight = nn.Parameter(bias), nn.Parameter(torch.randn(96, 64).T)
    torch.testing.assert_close(linear(with_split_products(layer), x), layer(x), rtol=0, atol=2e-4)


@NEEDS_TILES
@torch.no_grad()
def test_a_split_model_follows_what_becomes_of_the_first() -> None:
    first = nn.Sequential(nn.Linear(32, 32), nn.BatchNorm1d(32)).eval()
    split, x, heard = with_split_products(first), torch.randn(5, 32), []
    first.load_state_dict({name: torch.rand(p.shape) for name, p in first.state_dict().items()}, assign=True)
    torch.testing.assert_close(split(x), first(x), rtol=0, atol=1e-4)
    first._apply(lambda tensor: 2 * tensor)  # as `.to` does: buffers are others then
    torch.testing.assert_close(split(x), first(x), rtol=0, atol=1e-4)
    first[1].register_forward_hook(lambda *_: heard.append(1))
    split(x)
    assert heard == [1]


@NEEDS_TILES
@torch.no_grad()
def test_layers_whose_weight_a_hook_computes_stay_as_they_are() -> None:
    pruned = prune.l1_unstructured(nn.Linear(32, 32), "weight", 0.5)
    split, x = with_split_products(pruned), torch.randn(5, 32)
    assert type(split) is nn.Linear
    assert torch.equal(linear(split, x), pruned(x))


@NEEDS_TILES
@torch.no_grad()
def test_split_layers_refuse_what_the_layer_refuses() -> None:
    with pytest.raises(ValueError, match="rows of 32 are multiplied with columns of 64"):
        linear(with_split_products(nn.Linear(64, 64)), torch.ones(3, 32))


@NEEDS_TILES
def test_split_layers_of_no_whole_tiles_and_gradients_take_the_layer() -> None:
    with torch.no_grad():
        odd = with_split_products(nn.Linear(48, 40))
        assert torch.equal(linear(odd, torch.ones(3, 48)), odd(torch.ones(3, 48)))
    learning = with_split_products(nn.Linear(32, 32))
    linear(learning, torch.ones(3, 32)).sum().backward()
    assert learning.weight.grad is not None


def test_no_copy_where_there_are_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_tiles", lambda: False)
    layer = nn.Linear(32, 32)
    assert with_split_products(layer) is layer


def test_a_split_model_that_comes_to_a_machine_without_tiles_takes_its_layers_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, x = nn.Linear(32, 32), torch.randn(3, 32)
    split = copy(layer)
    split.__class__ = SplitLinear
    monkeypatch.setattr(module, "has_tiles", lambda: False)
    with torch.no_grad():
        assert torch.equal(linear(split, x), linear(layer, x))
