"""The whole model against the released code with equal random weights: embedding, low-resolution logits, IoU."""

from dataclasses import replace

import pytest
import torch

from sam_core.model.prompt_encoder import Prompts
from sam_core.model.sam import Sam
from sam_core.presets import at_image_size, preset, stage_three, vit_b, vit_h, vit_l, vit_n, vit_test
from tests.released import import_released
from tests.sam_core.model.reference import (
    assert_close,
    prompts_of_every_kind,
    released_decode,
    same_models,
    shallow,
)

KINDS = tuple(prompts_of_every_kind(vit_test(), n=1))


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_state_dict_names_and_shapes_are_the_released_ones(name):
    import_released()
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        released, ours = sam_model_registry[name](), Sam(preset(name))
    expected = {key: value.shape for key, value in released.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_prompt_decodes_as_released(kind, n, multimask):
    released, ours = same_models(vit_test())
    prompts = prompts_of_every_kind(vit_test(), n=n)[kind]
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        embedding, features = released.image_encoder(image), ours.image_encoder(image)
        logits, iou = released_decode(released, embedding, prompts, multimask=multimask)
        predictions = ours.decode(features, prompts, multimask=multimask)
    assert features.fine == ()
    assert_close(features.embedding, embedding)
    assert_close(predictions.logits, logits)
    assert_close(predictions.iou, iou)


@pytest.mark.parametrize("config", [vit_b(), vit_l(), vit_h(), stage_three(vit_b())], ids=lambda config: config.name)
def test_released_widths_in_two_blocks(config):
    config = shallow(config)
    released, ours = same_models(config)
    prompts = prompts_of_every_kind(config, n=2)["box, points and mask"]
    images = torch.randn(2, 3, config.image_size, config.image_size)
    with torch.no_grad():
        embedding, features = released.image_encoder(images), ours.image_encoder(images)
        logits, iou = released_decode(released, embedding[1:], prompts, multimask=True)
        predictions = ours.decode(features.take(slice(1, 2)), prompts, multimask=True)
    assert_close(features.embedding, embedding)
    assert_close(predictions.logits, logits)
    assert_close(predictions.iou, iou)


@pytest.mark.slow
def test_vit_b_at_1024_px():
    """Its own image size, where windows are padded; one block of windows, and one that is global."""
    config = vit_b()
    encoder = replace(config.image_encoder, depth=2, global_attn_indexes=(1,))
    released, ours = same_models(replace(config, image_encoder=encoder))
    image = torch.randn(1, 3, 1024, 1024)
    with torch.no_grad():
        embedding, features = released.image_encoder(image), ours.image_encoder(image)
        assert_close(features.embedding, embedding)
        for prompts in prompts_of_every_kind(vit_b(), n=1).values():
            logits, iou = released_decode(released, embedding, prompts, multimask=True)
            predictions = ours.decode(features, prompts, multimask=True)
            assert_close(predictions.logits, logits)
            assert_close(predictions.iou, iou)


def test_prompts_of_several_images_share_a_call():
    sam = Sam(vit_test()).eval()
    images, image_index = torch.randn(3, 3, 64, 64), torch.tensor([2, 0, 0, 1])
    prompts = prompts_of_every_kind(vit_test(), n=4)["box, points and mask"]
    with torch.no_grad():
        together = sam(images, prompts, image_index, multimask=True)
        for i, image in enumerate(image_index):
            own = Prompts(*(part[i : i + 1] for part in prompts.parts))
            alone = sam(images[image : image + 1], own, torch.tensor([0]), multimask=True)
            assert_close(together.logits[i], alone.logits[0], tolerance=1e-5)
            assert_close(together.iou[i], alone.iou[0], tolerance=1e-5)


def test_every_parameter_of_vit_n_learns():
    sam = Sam(at_image_size(vit_n(), 64))
    prompts = prompts_of_every_kind(sam.config, n=2)["box, points and mask"]
    clicks = prompts_of_every_kind(sam.config, n=2)["click"]
    for given in (prompts, clicks):
        for multimask in (True, False):
            predictions = sam(torch.randn(2, 3, 64, 64), given, torch.tensor([0, 1]), multimask=multimask)
            (predictions.logits.square().mean() + predictions.iou.square().mean()).backward()
    without = [name for name, parameter in sam.named_parameters() if parameter.grad is None]
    assert without == []


def test_buffers_have_values_on_every_way_to_build_a_model():
    with torch.device("meta"):
        sam = Sam(vit_test())
    assert sam.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert sam.device.type == "meta"
