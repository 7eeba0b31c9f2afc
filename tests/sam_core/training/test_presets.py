"""Presets say what the paper says."""

from dataclasses import replace

import pytest

from sam_core.model.layers import DropPath
from sam_core.model.sam import Sam
from sam_core.presets import preset
from sam_core.training.flops import step_flops
from sam_core.training.initialise import set_drop_path
from sam_core.training.presets import TRAIN_PRESETS, train_preset
from tests.benchmarks.flops import encoder_macs, released_decoder_macs


def test_the_papers_numbers() -> None:
    (h,), (big,), (b,) = train_preset("paper_vit_h"), train_preset("paper_vit_l"), train_preset("paper_vit_b")
    assert [c.rounds for c in (h, big, b)] == [11, 11, 11]
    assert [c.learning_rate.base for c in (h, big, b)] == [8e-4, 4e-4, 8e-4]
    assert [c.learning_rate.iterations for c in (h, big, b)] == [90_000, 180_000, 180_000]
    assert [c.images for c in (h, big, b)] == [256, 128, 128]
    assert [c.drop_path for c in (h, big, b)] == [0.4, 0.4, 0.6]
    assert [c.layer_decay for c in (h, big, b)] == [0.8, 0.8, 0.6]
    assert h.learning_rate.decay_at == (60_000, 86_666)
    assert all(c.masks_per_image == 64 and c.weight_decay == 0.1 and c.max_mask_share == 0.9 for c in (h, big, b))


def test_the_generators_model_has_three_layers_four_points_and_no_boxes() -> None:
    (config,) = train_preset("stage3_generator")
    assert config.sam.mask_decoder.depth == 3
    assert 1 + config.points == 4
    assert config.box_share == 0
    assert config.jitter == (0.1, 2.0)
    assert config.learning_rate.iterations == 177_656


@pytest.mark.parametrize("name", TRAIN_PRESETS)
def test_every_preset_names_a_model_that_can_be(name: str) -> None:
    for config in train_preset(name):
        assert config.sam.image_size == config.image_size


def test_unknown_presets_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'paper_vit_h'"):
        train_preset("paper_vith")


def test_flops_of_a_step_are_those_of_its_images_and_prompts() -> None:
    """Beside the counts by formula of the benchmarks; the encoder's attention computes up to half as much again."""
    (config,) = train_preset("paper_vit_b")
    one = replace(config, images=1)
    encoding = step_flops(one, masks=0)
    assert 1 <= encoding / (3 * 2 * encoder_macs(config.sam.image_encoder)) < 1.5
    prompt = (step_flops(one, masks=1) - encoding) / config.rounds
    assert prompt / (3 * 2 * released_decoder_macs(config.sam).ask) > 1
    released = released_decoder_macs(config.sam)
    assert prompt / (3 * 2 * (released.ask + released.draw)) == pytest.approx(1, rel=0.05)
    assert step_flops(replace(config, images=2), masks=5) == 2 * encoding + 5 * prompt * config.rounds


def test_drop_path_grows_from_zero_to_its_rate() -> None:
    sam = Sam(preset("vit_n"))
    set_drop_path(sam, 0.4)
    rates = [module.rate for module in sam.image_encoder.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0, 0.08, 0.16, 0.24, 0.32, 0.4])
