"""The compiled loops of sam_core/scenes/kernels.py against numpy and OpenCV."""

import cv2
import numpy as np
import pytest

from sam_core.scenes.kernels import Float32, Float64, UInt8, census, composite, darken, expose, paint_part, relief_light

_IDENTITY = np.array([1.0, 0, 0, 0, 1, 0, 0, 0, 1])
_EVEN = np.array([1.0, 0, 0])
_FLAT = np.zeros((1, 1), np.float32)


def _paint(field: UInt8, homography: Float64, coverage: UInt8, shade: Float64 = _EVEN) -> tuple[Float32, Float32]:
    height, width = coverage.shape
    colour, alpha = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    parts = np.zeros((height, width), np.int16)
    ramp = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, 1)
    grain = np.full_like(field, 128)
    paint_part(
        colour, alpha, parts, coverage, (0, 0), (0, 0), field, grain, 0.0, homography, ramp, shade, _FLAT, 0.0, 1, -1
    )
    assert np.array_equal(parts == 1, coverage >= 128)
    return colour, alpha


def test_texture_is_sampled_like_opencv_samples_it(rng: np.random.Generator) -> None:
    field = cv2.GaussianBlur(rng.integers(0, 256, (64, 64), dtype=np.uint8), (0, 0), 2, borderType=cv2.BORDER_REFLECT)
    matrix = np.array([[0.7, -0.3, 20.0], [0.3, 0.7, 5.0], [0, 0, 1]])
    full = np.full((40, 40), 255, np.uint8)
    colour, _ = _paint(field, matrix.ravel(), full)
    y, x = np.mgrid[:40, :40]
    u, v = np.tensordot(matrix[:2], np.stack([x, y, np.ones_like(x)]), 1).astype(np.float32)
    expected = cv2.remap(field, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP) / 255.0
    assert np.abs(colour[..., 0] - expected).max() < 2.5 / 255


def test_texture_wraps() -> None:
    field = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))
    colour, _ = _paint(field, _IDENTITY, np.full((4, 48), 255, np.uint8))
    assert np.array_equal(colour[:, :16], colour[:, 16:32])


def test_shade_and_partial_coverage() -> None:
    field = np.full((8, 8), 255, np.uint8)
    coverage = np.array([[0, 51, 255]], np.uint8)
    colour, alpha = _paint(field, _IDENTITY, coverage, np.array([0.5, 0.25, 0.0]))
    assert alpha[0] == pytest.approx([0, 0.2, 1])
    assert colour[0, :, 0] == pytest.approx([0, 0.2 * 0.75, 1.0])


def test_marks_stay_on_their_part_and_keep_its_alpha() -> None:
    colour, alpha = np.zeros((1, 3, 3), np.float32), np.array([[1.0, 0.6, 0]], np.float32)
    parts = np.array([[4, 4, 0]], np.int16)
    field, ramp = np.zeros((8, 8), np.uint8), np.ones((256, 3), np.float32)
    full = np.full((1, 3), 255, np.uint8)
    paint_part(colour, alpha, parts, full, (0, 0), (0, 0), field, field, 0.0, _IDENTITY, ramp, _EVEN, _FLAT, 0.0, 9, 4)
    assert colour[0, :, 0] == pytest.approx([1, 0.6, 0])
    assert alpha[0] == pytest.approx([1, 0.6, 0])
    assert parts.tolist() == [[4, 4, 0]]


def test_composite_is_alpha_over_with_labels_at_one_half(rng: np.random.Generator) -> None:
    canvas = rng.random((6, 6, 3), dtype=np.float32)
    alpha = rng.random((3, 4), dtype=np.float32)
    colour = rng.random((3, 4, 3), dtype=np.float32) * alpha[..., None]
    objects, part_map = np.full((6, 6), 2, np.int16), np.full((6, 6), 5, np.int16)
    parts = rng.integers(0, 3, (3, 4)).astype(np.int16)
    expected = canvas.copy()
    expected[1:4, 2:6] = canvas[1:4, 2:6] * (1 - alpha[..., None]) + colour
    composite(canvas, objects, part_map, colour, alpha, parts, (2, 1), 3, 10, 1.0)
    assert np.allclose(canvas, expected, atol=1e-6)
    assert np.array_equal(objects[1:4, 2:6], np.where(alpha >= 0.5, 3, 2))
    moved = np.where(parts > 0, parts + 10, 0)
    assert np.array_equal(part_map[1:4, 2:6], np.where(alpha >= 0.5, moved, 5))


def test_darken_multiplies_a_window() -> None:
    canvas = np.ones((3, 3, 3), np.float32)
    darken(canvas, np.array([[0.5]], np.float32), (2, 1), 0.8)
    assert canvas[1, 2] == pytest.approx([0.6] * 3)
    assert canvas.sum() == pytest.approx(27 - 1.2)


def test_relief_of_a_slope_is_lamberts_law() -> None:
    height = np.tile(np.arange(8, dtype=np.float32), (5, 1))
    light = np.array([0.6, 0.0, 0.8])
    lit = relief_light(height, light)
    normal = np.array([-1, 0, 1]) / np.sqrt(2)
    assert lit[2, 4] == pytest.approx(max(normal @ light, 0) / 0.8 - 1, abs=1e-6)
    assert np.abs(relief_light(np.zeros((4, 4), np.float32), light)).max() < 1e-6


@pytest.mark.parametrize("grey", [False, True])
def test_a_neutral_exposure_changes_nothing(rng: np.random.Generator, grey: bool) -> None:
    canvas = rng.random((8, 8, 3), dtype=np.float32)
    curve = (np.arange(1024) // 4).astype(np.uint8)
    nothing = np.zeros((16, 16), np.uint8)
    image = expose(
        canvas,
        np.ones(3),
        0.0,
        np.array([1.0, 1, 1, 0]),
        nothing,
        np.ones(256, np.float32),
        np.zeros(6),
        curve,
        np.zeros((16, 16, 3), np.int8),
        (0, 0),
        0.0,
        grey,
    )
    expected = canvas.mean(2, keepdims=True) if grey else canvas
    assert np.abs(image - expected * 255).max() <= 2


def test_census_counts_like_bincount(rng: np.random.Generator) -> None:
    labels = rng.integers(0, 7, (20, 30)).astype(np.int16)
    assert np.array_equal(census(labels, 9), np.bincount(labels.ravel(), minlength=9))
