"""The two-way transformer against the released one, and its shared image side."""

import pytest
import torch

from sam_core.model.two_way_transformer import TwoWayTransformer
from tests.released import import_released, randomise
from tests.sam_core.model.reference import assert_close


@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.no_grad()
def test_tokens_and_image_come_out_as_released(depth):
    import_released()
    from segment_anything.modeling import TwoWayTransformer as Released

    released = Released(depth=depth, embedding_dim=32, num_heads=4, mlp_dim=64)
    randomise(released, seed=0)
    ours = TwoWayTransformer(32, depth=depth, num_heads=4, mlp_dim=64)
    ours.load_state_dict(released.state_dict())
    tokens, image, image_pe = torch.randn(3, 7, 32), torch.randn(3, 32, 4, 5), torch.randn(1, 32, 4, 5)
    expected_tokens, expected_image = released(image, image_pe.expand_as(image), tokens)
    actual_tokens, actual_image = ours(tokens, as_tokens(image), as_tokens(image_pe))
    assert_close(actual_tokens, expected_tokens, tolerance=1e-5)
    assert_close(actual_image, expected_image, tolerance=1e-5)


@torch.no_grad()
def test_one_image_for_all_prompts_is_the_image_repeated():
    transformer = TwoWayTransformer(32, depth=2, num_heads=4, mlp_dim=64)
    tokens, image, image_pe = torch.randn(3, 7, 32), torch.randn(1, 20, 32), torch.randn(1, 20, 32)
    shared, repeated = transformer(tokens, image, image_pe), transformer(tokens, image.expand(3, -1, -1), image_pe)
    assert_close(shared[0], repeated[0], tolerance=1e-6)
    assert_close(shared[1], repeated[1], tolerance=1e-6)


def as_tokens(image: torch.Tensor) -> torch.Tensor:
    return image.flatten(2).transpose(1, 2)
