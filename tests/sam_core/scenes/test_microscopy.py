"""Cells of sam_core/scenes/microscopy.py."""

import numpy as np

from sam_core.scenes import SCENE_KINDS, SceneConfig, render_scene


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
