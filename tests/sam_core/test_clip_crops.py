"""What CLIP is shown of a mask: square, undistorted, as large as drawn, with zeros where there is nothing."""

import numpy as np
import pytest
import torch

from sam_core.clip_crops import CropDraw, crop, crop_batch, crop_window, draw_crops

IMAGE = np.random.default_rng(0).integers(1, 256, (60, 90, 3), dtype=np.uint8)


def block(y: int, x: int, h: int, w: int) -> np.ndarray:
    mask = np.zeros(IMAGE.shape[:2], bool)
    mask[y : y + h, x : x + w] = True
    return mask


def test_the_window_is_the_grown_box_made_square() -> None:
    assert crop_window(block(20, 30, 10, 20), 1.0) == (30, 15, 20)
    assert crop_window(block(20, 30, 10, 20), 2.0) == (20, 5, 40)


def test_pixels_are_those_of_the_image_where_nothing_is_resized() -> None:
    pixels, inside = crop(IMAGE, block(20, 30, 10, 20), CropDraw(2.0, background=True), 40)
    np.testing.assert_array_equal(pixels, IMAGE[5:45, 20:60])
    np.testing.assert_array_equal(inside, block(20, 30, 10, 20)[5:45, 20:60])


def test_without_background_all_but_the_mask_is_zero() -> None:
    pixels, inside = crop(IMAGE, block(20, 30, 10, 20), CropDraw(2.0, background=False), 40)
    np.testing.assert_array_equal((pixels > 0).all(2), inside)
    np.testing.assert_array_equal(pixels[inside], IMAGE[20:30, 30:50].reshape(-1, 3))


def test_beyond_the_image_there_are_zeros() -> None:
    pixels, inside = crop(IMAGE, block(0, 0, 10, 10), CropDraw(2.0, background=True), 20)
    assert (pixels[:5] == 0).all()
    assert (pixels[:, :5] == 0).all()
    np.testing.assert_array_equal(pixels[5:, 5:], IMAGE[:15, :15])
    assert inside.sum() == 100


@pytest.mark.parametrize("size", [16, 120])
def test_nothing_is_distorted(size: int) -> None:
    _, inside = crop(IMAGE, block(20, 30, 10, 20), CropDraw(1.5, background=True), size)
    height, width = inside.any(1).sum(), inside.any(0).sum()
    assert abs(width - size / 1.5) <= 1
    assert abs(height - size / 3) <= 1


def test_draws_are_between_once_and_twice_and_half_of_them_have_a_background() -> None:
    rng = np.random.default_rng(0)
    draws = [draw for _ in range(100) for draw in draw_crops(rng, 4)]
    assert 1 <= min(draw.grow for draw in draws) < 1.02
    assert 1.98 < max(draw.grow for draw in draws) <= 2
    assert sum(draw.background for draw in draws) == 200
    single = [draw_crops(rng, 1)[0].background for _ in range(400)]
    assert 160 < sum(single) < 240


def test_the_same_seed_draws_the_same() -> None:
    assert draw_crops(np.random.default_rng(5), 3) == draw_crops(np.random.default_rng(5), 3)


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="an empty mask has no box"):
        crop(IMAGE, block(0, 0, 0, 0), CropDraw(1.0, background=True), 8)


def test_a_batch_is_float_with_channels_first() -> None:
    made = [crop(IMAGE, block(5, 5, 9, 9), draw, 12) for draw in draw_crops(np.random.default_rng(0), 2)]
    batch = crop_batch(made)
    assert (batch.pixels.shape, batch.pixels.dtype) == ((2, 3, 12, 12), torch.float32)
    assert float(batch.pixels.max()) <= 1
    np.testing.assert_array_equal(batch.inside.numpy(), np.stack([inside for _, inside in made]))
