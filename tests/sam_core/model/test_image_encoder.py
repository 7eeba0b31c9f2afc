"""Windows and blocks against the released code, and what only training needs."""

from dataclasses import replace

import torch

from sam_core.model.image_encoder import ImageEncoder, ImageFeatures
from sam_core.presets import at_image_size, vit_n, vit_test


def test_vit_n_has_fine_features_at_strides_8_and_4():
    encoder = ImageEncoder(at_image_size(vit_n(), 64).image_encoder).eval()
    with torch.no_grad():
        features = encoder(torch.randn(2, 3, 64, 64))
    assert features.embedding.shape == (2, 128, 4, 4)
    assert [tuple(fine.shape) for fine in features.fine] == [(2, 32, 8, 8), (2, 16, 16, 16)]


def test_absolute_positions_can_be_left_out():
    config = replace(vit_test().image_encoder, absolute_positions=False)
    encoder = ImageEncoder(config)
    assert "pos_embed" not in encoder.state_dict()
    assert encoder(torch.randn(1, 3, 64, 64)).embedding.shape == (1, 32, 4, 4)


def test_drop_path_grows_with_depth_and_is_silent_outside_training():
    encoder = ImageEncoder(replace(vit_test().image_encoder, depth=3, drop_path=0.5))
    assert [block.drop_path.rate for block in encoder.blocks] == [0.0, 0.25, 0.5]
    image = torch.randn(1, 3, 64, 64)
    training = [encoder(image).embedding for _ in range(8)]
    assert any(not torch.equal(training[0], other) for other in training[1:])
    encoder.eval()
    assert torch.equal(encoder(image).embedding, encoder(image).embedding)


def test_take_repeats_images_for_prompts():
    features = ImageFeatures(torch.arange(3.0).view(3, 1, 1, 1), (torch.arange(3.0).view(3, 1, 1, 1) * 10,))
    taken = features.take(torch.tensor([2, 0, 2]))
    assert taken.embedding.flatten().tolist() == [2, 0, 2]
    assert taken.fine[0].flatten().tolist() == [20, 0, 20]
