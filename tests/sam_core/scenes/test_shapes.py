"""Outlines of sam_core/scenes/shapes.py against their equations and OpenCV's measures."""

import cv2
import numpy as np
import pytest

from sam_core.scenes import shapes
from sam_core.scenes.kernels import Float64


def _area(contour: Float64) -> float:
    return cv2.contourArea(contour.astype(np.float32))


def test_ellipse_has_its_area_and_turns_about_its_centre() -> None:
    outline = shapes.ellipse(2, 0.5, centre=(3, -1), tilt=0.7)
    assert _area(outline) == pytest.approx(np.pi, rel=0.01)
    assert outline.mean(0) == pytest.approx([3, -1])


def test_turn_matrix_turns_x_to_y() -> None:
    assert np.array([[1.0, 0.0]]) @ shapes.turn_matrix(np.pi / 2) == pytest.approx(np.array([[0.0, 1.0]]))


@pytest.mark.parametrize("power", [1.0, 2.0, 6.0])
def test_superellipse_satisfies_its_equation(power: float) -> None:
    x, y = shapes.superellipse(power, 2, 3).T
    assert abs(x / 2) ** power + abs(y / 3) ** power == pytest.approx(np.ones(len(x)))


def test_rounded_box_is_a_box_without_its_corners() -> None:
    assert _area(shapes.rounded_box(0, 0, 4, 2, 0.5)) == pytest.approx(8 - (4 - np.pi) * 0.25, rel=0.01)


def test_limb_has_the_area_of_a_capsule() -> None:
    capsule = shapes.limb(np.array([[0.0, 0], [3, 0]]), np.array([0.5, 0.5]))
    assert _area(capsule) == pytest.approx(3 + np.pi / 4, rel=0.03)


def test_smooth_goes_through_its_corners() -> None:
    corners = np.array([[0.0, 0], [2, 0], [2, 1], [0, 3]])
    curve = shapes.smooth(corners, steps=5)
    assert curve[::5] == pytest.approx(corners)


def test_blobs_without_roughness_are_circles_and_never_collapse(rng: np.random.Generator) -> None:
    assert np.hypot(*shapes.blob(rng, 0.0).T) == pytest.approx(np.ones(64))
    radius = np.hypot(*np.moveaxis(shapes.blobs(rng, 50, 0.8), 2, 0))
    assert radius.min() > 0.25
    assert radius.max() < 3


def test_bent_by_nothing_is_the_same(rng: np.random.Generator) -> None:
    contour = shapes.blob(rng)
    (same,) = shapes.bent((contour,), np.zeros(2), np.ones(2), np.ones(2))
    assert np.array_equal(same, contour)


def test_any_outline_is_finite_and_about_one_unit(rng: np.random.Generator) -> None:
    for _ in range(200):
        for contour in shapes.random_outline(rng):
            assert np.isfinite(contour).all()
            assert 0.02 < np.abs(contour).max() < 6
