"""Mirror images: places against flipped arrays, logits of any width against a field that is known everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_core.geometry import frame_of, upscale_logits
from sam_core.mirror import mirror_logits, mirror_prompts, mirror_window
from sam_core.predict import Prompts
from sam_core.windows import inside


def test_what_a_window_shows_is_mirrored() -> None:
    image = np.arange(30 * 50).reshape(30, 50)
    for window in ((0, 0, 50, 30), (3, 4, 20, 9), (41, 0, 50, 30)):
        other = inside(image[:, ::-1], mirror_window(window, 50))
        np.testing.assert_array_equal(other, inside(image, window)[:, ::-1])
        assert mirror_window(mirror_window(window, 50), 50) == window


def test_clicks_and_boxes_are_mirrored_and_stay_as_they_were() -> None:
    points, boxes = torch.tensor([[[10.5, 3.0], [50.0, 0.0]]]), torch.tensor([[1.0, 2.0, 31.0, 40.0]])
    prompts = Prompts(points, torch.tensor([[1, 0]]), boxes=boxes, text=torch.ones(1, 4))
    found = mirror_prompts(prompts, 50)
    assert found.points is not None
    assert found.points.tolist() == [[[39.5, 3.0], [0.0, 0.0]]]
    assert found.boxes is not None
    assert found.boxes.tolist() == [[19.0, 2.0, 49.0, 40.0]]
    assert found.labels is prompts.labels
    assert found.text is prompts.text
    assert points.tolist() == [[[10.5, 3.0], [50.0, 0.0]]]
    assert boxes.tolist() == [[1.0, 2.0, 31.0, 40.0]]


def test_mask_logits_have_no_mirror_image() -> None:
    with pytest.raises(ValueError, match="mean nothing in another"):
        mirror_prompts(Prompts(mask_logits=torch.zeros(1, 1, 8, 8)), 50)


@pytest.mark.parametrize("size", [(60, 60), (40, 60), (60, 40), (60, 41), (59, 33)])
def test_logits_come_back_to_where_they_belong(size: tuple[int, int]) -> None:
    """A field that is linear in x: interpolation between cells makes no mistake with it, wherever the crop ends."""
    frame = frame_of(size, image_size=64)
    places = torch.arange(16, dtype=torch.float32) + 0.5
    cells = frame.input_size[1] / 4
    field, mirrored = (x.expand(1, 2, 16, 16) for x in (places - cells / 3, cells - places - cells / 3))
    found, expected = (upscale_logits(logits, frame) for logits in (mirror_logits(mirrored, frame), field))
    # Up to a cell and a half from an end a value is that of the border, as in upscaling; in px of the crop.
    rim = -(-6 * size[1] // frame.input_size[1])
    torch.testing.assert_close(found[..., rim:-rim], expected[..., rim:-rim], atol=1e-4, rtol=0)
    assert (found - expected).abs().max() < 1
