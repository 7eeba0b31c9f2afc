"""Compiled drawing against the upscaling in plain torch, which is itself compared with the decoder as written down."""

import pytest
import torch

from sam_core.llvm_tiles import has_tiles
from sam_core.model import compiled_drawing, tiled_drawing
from sam_core.model.sam import Sam
from sam_core.model.upscaling import UNSEEN, cells_to_rows, draw_cells, upscaling_of
from sam_core.presets import at_image_size, vit_n
from tests.released import randomise

ROWS, COLUMNS = 3, 70
"""More columns than are drawn at once, 24 or 64."""
SEEN = 67
COMPILED = [
    (compiled_drawing, 1e-4),
    pytest.param(tiled_drawing, 5e-4, marks=pytest.mark.skipif(not has_tiles(), reason="needs a processor with AMX")),
]


@pytest.mark.parametrize("fine", [True, False], ids=["fine features", "plain"])
@pytest.mark.parametrize(("compiled", "bound"), COMPILED)
@torch.no_grad()
def test_wanted_masks_are_drawn_where_they_are_seen_and_nowhere_else(compiled, bound, fine):
    sam = Sam(at_image_size(vit_n(), 96)).eval()
    randomise(sam, seed=3)
    weights, dim = upscaling_of(sam.mask_decoder.output_upscaling), sam.config.mask_decoder.transformer_dim
    image, wanted = torch.randn(4, ROWS * COLUMNS, dim), torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]) > 0
    filters = torch.randn(6, dim // 8)
    levels = (torch.randn(ROWS, COLUMNS, 2, 2, dim // 4), torch.randn(ROWS, COLUMNS, 2, 2, 2, 2, dim // 8))
    levels = levels if fine else ()

    out = torch.full((6, 4 * ROWS, 4 * COLUMNS), UNSEEN)
    prompts = torch.nonzero(wanted)[:, 0]
    compiled.draw_seen(image, filters, prompts, weights, levels, (2, SEEN), out)
    cells = draw_cells(image[prompts], filters[:, None], weights, tuple(x.flatten(0, -2) for x in levels))[:, 0]
    expected = cells_to_rows(cells, (ROWS, COLUMNS))
    torch.testing.assert_close(out[:, :8, : 4 * SEEN], expected[:, :8, : 4 * SEEN], atol=bound, rtol=bound)
    assert (out[:, 8:] == UNSEEN).all()
    assert (out[:, :, 4 * SEEN :] == UNSEEN).all()


@pytest.mark.parametrize(("channels", "whole"), [(256, True), (128, True), (64, False)])
def test_what_tiles_can_draw(channels, whole):
    assert tiled_drawing.can_draw(channels) is whole
