"""Placing of sam_core/scenes/stage.py."""

from dataclasses import replace

import numpy as np
import pytest

from sam_core.scenes import SceneConfig, shapes
from sam_core.scenes.layers import Canvas, Part
from sam_core.scenes.materials import MaterialShop
from sam_core.scenes.stage import Stage, deformed


@pytest.fixture
def stage(shop: MaterialShop) -> Stage:
    light = np.array([0.0, -0.6, 0.8])
    return Stage(SceneConfig(size=128, camouflage=1.0), Canvas.blank(128), shop, light, shadow=0.6, shadow_soft=0.1)


def test_an_object_lands_at_its_place_and_size(rng: np.random.Generator, stage: Stage) -> None:
    number = stage.put(rng, [Part((shapes.ellipse(),), stage.shop.plain(rng))], np.array([70.0, 50.0]), 20)
    rows, columns = np.nonzero(stage.canvas.objects == number)
    assert [columns.mean(), rows.mean()] == pytest.approx([70, 50], abs=3)
    assert len(rows) == pytest.approx(np.pi * 400, rel=0.25)


def test_camouflage_wears_the_backdrop(rng: np.random.Generator, stage: Stage) -> None:
    backdrop = stage.shop.plain(rng, np.array([0.0, 0.9, 0.0]))
    red = Part((shapes.ellipse(),), stage.shop.plain(rng, np.array([0.9, 0.0, 0.0])))
    stage.put(rng, [red], np.array([64.0, 64.0]), 30, backdrop=backdrop)
    assert stage.canvas.colour[64, 64, 1] > 3 * stage.canvas.colour[64, 64, 0]


def test_a_miss_is_no_object(rng: np.random.Generator, stage: Stage) -> None:
    assert stage.put(rng, [Part((shapes.ellipse(),), stage.shop.plain(rng))], np.array([900.0, 900.0]), 20) == 0
    assert len(stage.canvas.stuff) == 1


def test_standing_things_throw_their_shadow_on_the_ground(rng: np.random.Generator, stage: Stage) -> None:
    grounded = replace(stage, grounded=True)
    grounded.canvas.colour[:] = 1.0
    post = [Part((shapes.box(-0.1, -1, 0.1, 1),), stage.shop.plain(rng))]
    grounded.put(rng, post, np.array([64.0, 64.0]), 30)
    shade = (grounded.canvas.colour.mean(2) < 0.7) & (grounded.canvas.objects == 0)
    assert shade.any()
    assert np.nonzero(shade)[0].mean() > 64


def test_scales_have_a_heavy_tail(rng: np.random.Generator, stage: Stage) -> None:
    scales = np.array([stage.heavy_scale(rng) for _ in range(4000)])
    assert scales.min() >= 0.02 * 128 - 1e-9
    assert scales.max() <= 0.6 * 128 + 1e-9
    below = [(scales < 128 * s).mean() for s in (0.04, 0.08)]
    expected = [(1 / 0.02 - 1 / s) / (1 / 0.02 - 1 / 0.6) for s in (0.04, 0.08)]
    assert below == pytest.approx(expected, abs=0.03)


def test_deforming_keeps_the_parts_together(rng: np.random.Generator, shop: MaterialShop) -> None:
    point = np.array([[0.3, 0.4], [0.5, 0.1]])
    first, second = deformed(rng, [Part((point,), shop.plain(rng)), Part((point,), shop.plain(rng))])
    assert np.array_equal(first.contours[0], second.contours[0])
    assert np.abs(first.contours[0] - point).max() < 0.5
