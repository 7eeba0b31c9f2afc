"""The model that training begins with."""

from __future__ import annotations

import pytest
import torch

from sam_core.model.checkpoint import CheckpointError
from sam_core.model.layers import DropPath
from tests.workflows.train.conftest import small_config
from workflows.models import Model
from workflows.train.first_model import first_model


def test_another_checkpoint_at_the_same_place_is_refused(replaced_model: Model) -> None:
    """The record of the run would name the one that was there."""
    with pytest.raises(CheckpointError, match="not the checkpoint that the command began with"):
        first_model(small_config(), replaced_model)


def test_what_does_not_learn_is_what_the_configuration_says() -> None:
    models = (first_model(small_config(freeze_encoder=frozen), None) for frozen in (False, True))
    learning = [{name.partition(".")[0] for name, p in each.named_parameters() if p.requires_grad} for each in models]
    everything = {"image_encoder", "prompt_encoder", "mask_decoder"}
    assert learning == [everything, everything - {"image_encoder"}]


def test_blocks_are_dropped_as_the_configuration_says() -> None:
    rates = [
        module.rate
        for module in first_model(small_config(drop_path=0.3), None).modules()
        if isinstance(module, DropPath)
    ]
    assert max(rates) == 0.3


def test_a_new_model_may_begin_with_clicks_that_are_local() -> None:
    plain, aligned = (first_model(small_config(align_start=align), None) for align in (False, True))
    before, after = (each.mask_decoder.transformer.final_attn_token_to_image for each in (plain, aligned))
    torch.testing.assert_close(after.q_proj.weight, 2 * before.q_proj.weight)
    torch.testing.assert_close(after.k_proj.weight, after.q_proj.weight)
