"""Drawing cells against the upscaling as the mask decoder has it written down."""

import pytest
import torch

from sam_core.model.absorbed_decoder import AbsorbedDecoder
from sam_core.model.sam import Sam
from sam_core.model.upscaling import cells_to_rows, draw_cells, upscaling_of
from sam_core.presets import SamConfig, at_image_size, vit_n, vit_test
from tests.released import randomise

CONFIGS = pytest.mark.parametrize("config", [vit_test(), at_image_size(vit_n(), 96)], ids=["plain", "fine features"])


def drawn(config: SamConfig):
    """A decoder, its image and features, and the logits of three filters for it, [3, 4h, 4w]."""
    sam = Sam(config).eval()
    randomise(sam, seed=3)
    side, dim = config.image_encoder.grid, config.mask_decoder.transformer_dim
    features = sam.image_encoder(torch.randn(1, 3, config.image_size, config.image_size))
    image, filters = torch.randn(1, dim, side, side), torch.randn(3, dim // 8)
    expected = torch.einsum("kc,chw->khw", filters, sam.mask_decoder.upscale(image, features.fine)[0])
    shared = AbsorbedDecoder(sam.mask_decoder).share(features, torch.zeros(1, dim, side, side), torch.zeros(1, 1, 1, 1))
    return upscaling_of(sam.mask_decoder.output_upscaling), image[0].permute(1, 2, 0), filters, shared.fine, expected


@CONFIGS
@torch.no_grad()
def test_cells_are_the_upscaling_of_the_decoder(config):
    weights, image, filters, fine, expected = drawn(config)
    cells = draw_cells(
        image.reshape(1, -1, image.shape[2]), filters[None], weights, tuple(x.flatten(0, -2) for x in fine)
    )[0]
    torch.testing.assert_close(cells_to_rows(cells, image.shape[:2]), expected, atol=1e-4, rtol=1e-4)
