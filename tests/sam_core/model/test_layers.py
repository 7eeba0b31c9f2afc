"""Small layers against PyTorch and the released code."""

import pytest
import torch
from torch import nn

from sam_core.model.layers import MLP, DropPath, LayerNorm2d, MLPBlock
from tests.released import import_released, randomise
from tests.sam_core.model.reference import assert_close


@torch.no_grad()
def test_layer_norm_2d_is_the_released_one():
    import_released()
    from segment_anything.modeling.common import LayerNorm2d as Released

    released, ours = Released(6), LayerNorm2d(6)
    randomise(released, seed=0)
    ours.load_state_dict(released.state_dict())
    x = torch.randn(2, 6, 3, 4) * 5 + 2
    assert_close(ours(x), released(x), tolerance=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_mlp_has_relu_between_its_layers_only(depth):
    mlp, x = MLP(4, 8, 3, depth), torch.randn(5, 4)
    y = x
    for i, layer in enumerate(mlp.layers):
        y = layer(y if i == 0 else y.clamp(min=0))
    assert len(mlp.layers) == depth
    assert torch.equal(mlp(x), y)


def test_mlp_block_applies_its_activation_once():
    block, x = MLPBlock(4, 8, torch.nn.Tanh), torch.randn(5, 4)
    assert torch.equal(block(x), block.lin2(torch.tanh(block.lin1(x))))


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    dropped = DropPath(0.25)(torch.ones(10_000, 2, 2))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert (dropped == dropped[:, :1, :1]).all()
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)


@torch.no_grad()
def test_a_perceptron_answers_the_same_in_slices():
    layer, x = MLPBlock(8, 32, nn.GELU), torch.randn(3, 400, 8)
    expected = layer.lin2(layer.act(layer.lin1(x)))
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-6)
