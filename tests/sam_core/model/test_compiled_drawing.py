"""Compiled drawing against the upscaling in plain torch, which is itself compared with the decoder as written down."""

import pytest
import torch

from sam_core.model.compiled_drawing import draw_seen
from sam_core.model.sam import Sam
from sam_core.model.upscaling import UNSEEN, cells_to_rows, draw_cells, upscaling_of
from sam_core.presets import at_image_size, vit_n
from tests.released import randomise

ROWS, COLUMNS = 3, 30
"""More columns than are drawn at once, 24."""


@pytest.mark.parametrize("fine", [True, False], ids=["fine features", "plain"])
@torch.no_grad()
def test_wanted_masks_are_drawn_where_they_are_seen_and_nowhere_else(fine):
    sam = Sam(at_image_size(vit_n(), 96)).eval()
    randomise(sam, seed=3)
    weights, dim = upscaling_of(sam.mask_decoder.output_upscaling), sam.config.mask_decoder.transformer_dim
    image, wanted = torch.randn(4, ROWS * COLUMNS, dim), torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]) > 0
    filters = torch.randn(6, dim // 8)
    levels = (torch.randn(ROWS, COLUMNS, 2, 2, dim // 4), torch.randn(ROWS, COLUMNS, 2, 2, 2, 2, dim // 8))
    levels = levels if fine else ()

    out = torch.full((6, 4 * ROWS, 4 * COLUMNS), UNSEEN)
    draw_seen(image, filters, wanted, weights, levels, (2, 27), out)
    prompts = torch.nonzero(wanted)[:, 0]
    cells = draw_cells(image[prompts], filters[:, None], weights, tuple(x.flatten(0, -2) for x in levels))[:, 0]
    expected = cells_to_rows(cells, (ROWS, COLUMNS))
    torch.testing.assert_close(out[:, :8, :108], expected[:, :8, :108], atol=1e-4, rtol=1e-4)
    assert (out[:, 8:] == UNSEEN).all()
    assert (out[:, :, 108:] == UNSEEN).all()
