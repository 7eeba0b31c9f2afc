"""Clicks deep inside masks, against scipy's distance transform."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from sam_core.scenes import SceneConfig, render_scene, scene_masks
from sam_core.training.centres import draw_centres


def test_a_centre_lies_in_the_core_of_its_mask() -> None:
    rng = np.random.default_rng(0)
    masks = scene_masks(render_scene(SceneConfig(size=128), rng), min_area=20).pixels()
    for mask, (x, y) in zip(masks, draw_centres(masks, rng).astype(int).tolist(), strict=True):
        depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        assert depth[y, x] >= 0.9 * depth.max() - 1e-4


def test_every_pixel_of_the_core_is_drawn() -> None:
    ring = np.zeros((1, 40, 60), bool)
    ring[0, 10:30, 20:50] = True
    ring[0, 15:25, 25:45] = False
    drawn = {tuple(draw_centres(ring, np.random.default_rng(seed))[0].tolist()) for seed in range(400)}
    assert {x for x, _ in drawn} >= set(range(22, 48))  # everywhere along the ring
    assert all(ring[0, int(y), int(x)] for x, y in drawn)


@pytest.mark.parametrize("masks", [np.zeros((0, 8, 8), bool), np.ones((2, 1, 1), bool), np.ones((1, 3, 9), bool)])
def test_few_masks_and_masks_as_large_as_their_image(masks: np.ndarray) -> None:
    centres = draw_centres(masks, np.random.default_rng(0))
    assert centres.shape == (len(masks), 2)
    assert centres.dtype == np.float32
    assert (centres[:, 1] == (masks.shape[1] - 1) // 2).all()
