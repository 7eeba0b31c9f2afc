"""Cells of sam_core/scenes/microscopy.py."""

import numpy as np

from sam_core.scenes import SCENE_KINDS, SceneConfig, microscopy, render_scene
from sam_core.scenes.layers import Canvas
from sam_core.scenes.materials import MaterialShop, random_palette
from sam_core.scenes.stage import Stage
from sam_core.scenes.textures import texture_bank


def test_cells_are_many_small_and_of_one_size_class() -> None:
    config = SceneConfig(size=256, kind_weights=tuple(float(k == "microscopy") for k in SCENE_KINDS))
    counts, spreads = [], []
    for seed in range(12):
        scene = render_scene(config, np.random.default_rng(seed))
        areas = np.bincount(scene.objects.ravel(), minlength=len(scene.stuff))[1:][~scene.stuff[1:]]
        counts.append(len(areas))
        spreads.append(np.quantile(areas, 0.9) / np.median(areas))
        assert areas.max() < 0.25 * 256**2
        assert not scene.parts.any()
    assert np.median(counts) > 20
    assert np.median(spreads) < 4


def test_cells_go_down_to_a_few_pixels() -> None:
    config = SceneConfig(size=384, kind_weights=tuple(float(k == "microscopy") for k in SCENE_KINDS))
    medians = []
    for seed in range(12):
        scene = render_scene(config, np.random.default_rng(seed))
        areas = np.bincount(scene.objects.ravel(), minlength=len(scene.stuff))[1:][~scene.stuff[1:]]
        assert areas.min(initial=9) >= 9
        medians.append(np.median(areas) if len(areas) else 0)
    assert min(medians) < 40
    assert max(medians) > 600


def test_grains_are_small_marks_dark_and_light() -> None:
    rng = np.random.default_rng(5)
    surface = MaterialShop(texture_bank(0), random_palette(rng), 128).plain(rng, np.full(3, 0.5))
    dark, light = microscopy._chromatin(rng, surface, 30)
    assert (len(dark.contours), len(light.contours)) == (30, 10)
    assert dark.brightness < 1 <= light.brightness
    assert dark.mark
    assert light.mark
    assert max(np.ptp(contour, axis=0).max() for contour in dark.contours) < 0.25


def test_tissue_is_cells_side_by_side_in_one_place() -> None:
    places = microscopy._tissue(np.random.default_rng(4), 384, 4.0, 100)
    apart = np.linalg.norm(places[:, None] - places, axis=2)[~np.eye(len(places), dtype=bool)].reshape(len(places), -1)
    assert len(places) > 40
    assert apart.min() > 6
    assert np.median(apart.min(1)) < 12
    assert np.ptp(places, axis=0).max() < 250


def test_bodies_around_nuclei_are_no_objects() -> None:
    canvas = Canvas.blank(128)
    shop = MaterialShop(texture_bank(0), random_palette(np.random.default_rng(1)), 128)
    stage = Stage(SceneConfig(size=128), canvas, shop, np.array([0, 0, 1.0]), 0.0, 0.1, grounded=False)
    region = canvas.new_object(stuff=True)
    body = microscopy._Body(region, shop.plain(np.random.default_rng(2), np.array([0.9, 0.1, 0.1])), share=1.0)
    places = np.array([[30.0, 30.0], [32.0, 31.0], [90.0, 80.0]])
    kept = microscopy._embodied(np.random.default_rng(3), stage, body, places, 3.0)
    assert {tuple(place) for place in kept} <= {tuple(place) for place in places}
    assert np.unique(canvas.objects).tolist() == [0, region]
    red = canvas.colour[..., 0] > 0.6
    assert not (red & (canvas.objects == 0)).any()
    assert 0.01 < red.mean() < 0.6
