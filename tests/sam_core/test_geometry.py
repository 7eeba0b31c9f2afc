"""Geometry against the released code: `ResizeLongestSide`, `Sam.preprocess` and `Sam.postprocess_masks`."""

import numpy as np
import pytest
import torch

from sam_core.geometry import (
    Frame,
    boxes_to_input,
    frame_of,
    masks_at_once,
    model_input,
    points_to_input,
    upscale_logits,
)
from sam_core.presets import vit_test
from tests.released import import_released, released_architecture

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
SIZES = [(300, 451), (451, 300), (512, 512), (64, 64), (1, 1), (33, 1024), (1200, 1801), (1025, 1024)]


def resize_longest_side(image_size):
    import_released()
    from segment_anything.utils.transforms import ResizeLongestSide

    return ResizeLongestSide(image_size)


def random_image(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image_size", [64, 1024])
def test_input_size_is_that_of_the_released_code(size, image_size):
    released = resize_longest_side(image_size).get_preprocess_shape(*size, image_size)
    assert frame_of(size, image_size=image_size).input_size == tuple(max(1, side) for side in released)


def test_a_sliver_keeps_one_pixel():
    assert frame_of((1, 3000), image_size=1024).input_size == (1, 1024)


def test_crop_size_and_whole_image():
    whole = frame_of((300, 451), image_size=64)
    assert (whole.crop_box, whole.crop_size, whole.whole_image) == ((0, 0, 451, 300), (300, 451), True)
    crop = frame_of((300, 451), image_size=64, crop_box=(10, 20, 110, 70))
    assert (crop.crop_size, crop.input_size, crop.whole_image) == ((50, 100), (32, 64), False)


@pytest.mark.parametrize("box", [(0, 0, 452, 300), (-1, 0, 10, 10), (10, 10, 10, 20), (20, 0, 10, 10), (0, 0, 5, 301)])
def test_crops_that_leave_the_image_or_are_empty_are_refused(box):
    with pytest.raises(ValueError, match="does not lie in an image of 451x300 px"):
        frame_of((300, 451), image_size=64, crop_box=box)


def test_crops_begin_and_end_between_pixels():
    assert frame_of((300, 451), image_size=64, crop_box=tuple(np.array([0, 0, 9, 9]))).crop_size == (9, 9)
    with pytest.raises(ValueError, match=r"crop \(0, 0, 9.5, 9\) must be whole px"):
        frame_of((300, 451), image_size=64, crop_box=(0, 0, 9.5, 9))


@pytest.mark.parametrize("size", SIZES)
def test_points_and_boxes_move_as_in_the_released_code(size):
    rng = np.random.default_rng(0)
    points, boxes = rng.random((5, 3, 2)) * size[::-1], rng.random((5, 4)) * (*size[::-1], *size[::-1])
    transform, frame = resize_longest_side(1024), frame_of(size, image_size=1024)
    np.testing.assert_array_equal(
        points_to_input(torch.from_numpy(points), frame), transform.apply_coords(points, size)
    )
    np.testing.assert_array_equal(boxes_to_input(torch.from_numpy(boxes), frame), transform.apply_boxes(boxes, size))


def test_points_of_a_crop_are_given_in_the_original_frame():
    frame = Frame(original_size=(100, 200), crop_box=(50, 20, 150, 70), input_size=(32, 64), image_size=64)
    points = torch.tensor([[50.0, 20.0], [150.0, 70.0], [100.0, 45.0]])
    torch.testing.assert_close(points_to_input(points, frame), torch.tensor([[0.0, 0.0], [64.0, 32.0], [32.0, 16.0]]))


@pytest.mark.parametrize("size", [(300, 451), (451, 300), (64, 64), (20, 30), (1, 1), (200, 7)])
def test_model_input_is_bit_identical_to_the_released_preprocessing(size):
    image, frame = random_image(size), frame_of(size, image_size=64)
    resized = torch.as_tensor(resize_longest_side(64).apply_image(image)).permute(2, 0, 1)
    expected = released_architecture(vit_test()).preprocess(resized)
    actual = model_input(image, frame, MEAN, STD)
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)


def test_model_input_of_a_crop_sees_nothing_outside_it():
    image = random_image((100, 120))
    frame = frame_of((100, 120), image_size=64, crop_box=(30, 10, 90, 50))
    alone = frame_of((40, 60), image_size=64)
    assert torch.equal(model_input(image, frame, MEAN, STD), model_input(image[10:50, 30:90], alone, MEAN, STD))


def test_padding_is_zero_after_normalisation():
    padded = model_input(random_image((32, 64)), frame_of((32, 64), image_size=64), MEAN, STD)
    assert (padded[:, 32:] == 0).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 20), np.uint8),
        np.zeros((10, 20, 4), np.uint8),
        np.zeros((10, 20, 3), np.float32),
        np.zeros((20, 10, 3), np.uint8),
    ],
)
def test_images_of_another_kind_or_size_are_refused(image):
    with pytest.raises(ValueError, match=r"expected a uint8 RGB image \[10, 20, 3\]"):
        model_input(image, frame_of((10, 20), image_size=64), MEAN, STD)


@pytest.mark.parametrize("size", [(300, 451), (451, 300), (64, 64), (20, 30)])
def test_upscaled_logits_are_bit_identical_to_the_released_postprocessing(size):
    logits, frame = torch.randn(2, 3, 16, 16), frame_of(size, image_size=64)
    expected = released_architecture(vit_test()).postprocess_masks(logits, frame.input_size, size)
    assert torch.equal(upscale_logits(logits, frame), expected)


def test_few_masks_of_large_pictures_are_held_at_once():
    sizes = (480, 640), (3000, 4000), (6000, 8000), (9000, 12000)
    assert [masks_at_once(size, 16) for size in sizes] == [16, 5, 1, 1]
    assert masks_at_once((480, 640), 3) == 3
