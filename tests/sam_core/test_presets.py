import dataclasses

import pytest

from sam_core.presets import PRESETS, SamConfig, at_image_size, preset, stage_three, vit_b, vit_h, vit_l, vit_n


@pytest.mark.parametrize(
    ("config", "width", "depth", "heads", "global_blocks"),
    [
        (vit_b(), 768, 12, 12, (2, 5, 8, 11)),
        (vit_l(), 1024, 24, 16, (5, 11, 17, 23)),
        (vit_h(), 1280, 32, 16, (7, 15, 23, 31)),
    ],
    ids=lambda value: value.name if isinstance(value, SamConfig) else "",
)
def test_released_sizes_are_those_of_the_paper(config, width, depth, heads, global_blocks):
    encoder = config.image_encoder
    assert (encoder.embed_dim, encoder.depth, encoder.num_heads) == (width, depth, heads)
    assert encoder.global_attn_indexes == global_blocks
    assert (encoder.image_size, encoder.grid, encoder.window_size, encoder.out_chans) == (1024, 64, 14, 256)
    assert (config.mask_decoder.depth, config.low_res_size) == (2, 256)


def test_vit_n_is_384_px_with_a_convolutional_stem():
    config = vit_n()
    assert (config.image_size, config.image_encoder.grid, config.image_encoder.stem) == (384, 24, "conv")


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name):
    config = preset(name)
    assert config.name == name
    assert SamConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"image_encoder": 1}', vit_b().to_json().replace("depth", "x")])
def test_json_of_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="not a model configuration"):
        SamConfig.from_json(text)


def test_stage_three_has_three_decoder_layers_and_nothing_else_changed():
    config = stage_three(vit_h())
    assert config.mask_decoder.depth == 3
    assert config.image_encoder == vit_h().image_encoder
    assert config.name == "vit_h_stage3"


def test_at_image_size_changes_the_grid_only():
    config = at_image_size(vit_n(), 512)
    assert (config.image_encoder.grid, config.low_res_size) == (32, 128)
    assert at_image_size(config, 384) == vit_n()


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="no model is called 'vitb'; did you mean 'vit_b'"):
        preset("vitb")
    with pytest.raises(ValueError, match=r"known are vit_b, vit_l, vit_h, vit_t, vit_n$"):
        preset("resnet")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image_size": 1000}, r"^image_size 1000 is not a multiple of patch_size 16 in ImageEncoderConfig$"),
        ({"embed_dim": 770}, "multiple of num_heads"),
        ({"global_attn_indexes": (12,)}, "global_attn_indexes"),
        ({"window_size": 0}, "a size is not in 1..16384"),
        ({"embed_dim": 2**40}, "a size is not in"),
        ({"depth": 10**9}, "depth is not in 1..256"),
        ({"mlp_ratio": 1e300}, "mlp_ratio"),
        ({"stem": "linear"}, "stem"),
        ({"stem": "conv", "patch_size": 8}, "patches of 16 px"),
        ({"drop_path": 1.0}, "drop_path"),
    ],
)
def test_encoder_configurations_that_cannot_be_built_are_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(vit_b().image_encoder, **change)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_heads": 7}, "whole heads"),
        ({"transformer_dim": 12, "num_heads": 2}, "multiple of 8"),
        ({"depth": 0}, "a count is not in 1..256"),
    ],
)
def test_decoder_configurations_that_cannot_be_built_are_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(vit_b().mask_decoder, **change)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image_encoder": vit_n().image_encoder}, "out_chans"),
        ({"pixel_mean": (0.0, 0.0)}, "3 values"),
        ({"pixel_std": (1.0, 0.0, 1.0)}, "not positive"),
    ],
)
def test_models_whose_parts_do_not_fit_are_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        dataclasses.replace(vit_b(), **change)
