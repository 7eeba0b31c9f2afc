"""What is set on a model before training."""

from __future__ import annotations

import pytest
import torch

from sam_core.model.sam import Sam
from sam_core.presets import stage_three, vit_test
from sam_core.training.initialise import deepened
from sam_core.training.presets import train_preset
from workflows.train.first_model import require_same_model


def test_missing_layers_become_copies_of_the_last() -> None:
    shallow, deep = Sam(vit_test()), Sam(stage_three(vit_test()))
    deep.load_state_dict(deepened(shallow.state_dict(), depth=3))
    layers = deep.mask_decoder.transformer.layers
    for name, tensor in layers[1].state_dict().items():
        assert torch.equal(layers[2].state_dict()[name], tensor), name
    for name, tensor in shallow.state_dict().items():
        assert torch.equal(deep.state_dict()[name], tensor), name
    same = deepened(shallow.state_dict(), depth=2)
    assert same.keys() == shallow.state_dict().keys()


def test_a_stage_three_run_may_begin_with_two_layers_and_not_the_other_way_round() -> None:
    (three,), (two,) = train_preset("stage3_fine_tune"), train_preset("fine_tune")
    assert three.sam.mask_decoder.depth == 3
    assert (three.points, three.box_share) == (3, 0.0)
    require_same_model(three, two.sam, "two.safetensors")
    with pytest.raises(ValueError, match=r"three.safetensors holds vit_n_stage3"):
        require_same_model(two, three.sam, "three.safetensors")
