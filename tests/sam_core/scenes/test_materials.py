"""Colours and materials of sam_core/scenes/materials.py."""

import colorsys

import numpy as np
import pytest

from sam_core.scenes.materials import MaterialShop, colour_ramp, hsv, lay, natural_colour, random_palette


def test_hsv_is_that_of_the_standard_library(rng: np.random.Generator) -> None:
    for hue, saturation, value in rng.random((50, 3)):
        assert hsv(hue, saturation, value) == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, value))


def test_colours_are_valid_and_mostly_dull(rng: np.random.Generator) -> None:
    colours = np.array([natural_colour(rng) for _ in range(500)])
    assert colours.min() >= 0
    assert colours.max() <= 1
    saturation = 1 - colours.min(1) / colours.max(1)
    assert 0.15 < np.median(saturation) < 0.45
    assert len(random_palette(rng).anchors) >= 4


def test_ramp_runs_from_low_to_high() -> None:
    ramp = colour_ramp(np.zeros(3), np.array([1, 0.5, 0.25]), bend=2)
    assert ramp[[0, 255]].tolist() == [[0, 0, 0], [1, 0.5, 0.25]]
    assert ramp[128, 0] == pytest.approx((128 / 255) ** 2)


def test_laying_scales_by_the_given_factor(rng: np.random.Generator) -> None:
    matrix = lay(rng, 1.7).reshape(3, 3)
    assert np.linalg.det(matrix) == pytest.approx(1.7**2)


def test_every_material_has_finite_colours(rng: np.random.Generator, shop: MaterialShop) -> None:
    for make in (shop.plain, shop.rough, shop.patterned, shop.cloth, shop.any):
        for _ in range(10):
            ramp = make(rng).ramp
            assert ramp.shape == (256, 3)
            assert np.isfinite(ramp).all()
            assert ramp.min() >= 0
