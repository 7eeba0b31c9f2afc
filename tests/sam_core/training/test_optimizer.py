"""Parameter groups: layer-wise decay, weight decay, and the running average."""

import copy

import pytest
import torch

from sam_core.model.sam import Sam
from sam_core.presets import vit_n, vit_test
from sam_core.training.optimizer import adamw, decays, layer_of, set_learning_rate, update_average


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("image_encoder.patch_embed.proj.weight", 0),
        ("image_encoder.pos_embed", 0),
        ("image_encoder.blocks.0.attn.qkv.weight", 1),
        ("image_encoder.blocks.11.mlp.lin1.bias", 12),
        ("image_encoder.layers.0.blocks.1.conv1.c.weight", 9),
        ("image_encoder.layers.3.blocks.0.mlp.fc1.bias", 12),
        ("image_encoder.neck.0.weight", 13),
        ("mask_decoder.iou_token.weight", 13),
    ],
)
def test_layers_are_counted_from_the_stem(name: str, layer: int) -> None:
    assert layer_of(name, depth=12) == layer


def test_every_parameter_is_in_one_group_with_its_scale() -> None:
    sam = Sam(vit_test())
    optimizer = adamw(sam, depth=2, layer_decay=0.5, weight_decay=0.1)
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(sam.parameters()))
    set_learning_rate(optimizer, 1.0)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(sam.image_encoder.patch_embed.proj.weight)] == 0.125
    assert rates[id(sam.image_encoder.blocks[1].norm1.weight)] == 0.5
    assert rates[id(sam.mask_decoder.iou_token.weight)] == 1.0


def test_weight_decay_spares_norms_biases_embeddings_and_position_tables() -> None:
    sam = Sam(vit_n())
    decayed = {name for name, p in sam.named_parameters() if decays(name, p)}
    assert {name for name, _ in sam.named_parameters() if name.endswith("_proj.weight")} <= decayed
    assert "image_encoder.patch_embed.proj.1.weight" in decayed
    assert "mask_decoder.output_upscaling.0.weight" in decayed
    for spared in ("pos_embed", "rel_pos", "norm", "bias", "token.weight", "embeddings"):
        assert not any(spared in name for name in decayed), spared


def test_average_moves_by_its_share() -> None:
    model = torch.nn.Linear(2, 2)
    average = copy.deepcopy(model)
    before = average.weight.clone()
    model.weight.data += 1.0
    update_average(average, model, 0.9)
    torch.testing.assert_close(average.weight, before + 0.1)


def test_buffers_are_those_of_the_model() -> None:
    """As of norms that count what they have seen."""
    model = torch.nn.BatchNorm1d(3)
    average = copy.deepcopy(model)
    model.running_mean.fill_(5)  # type: ignore[union-attr]
    update_average(average, model, 0.9)
    torch.testing.assert_close(average.running_mean, torch.full((3,), 5.0))
