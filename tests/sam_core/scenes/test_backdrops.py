"""Backdrops of sam_core/scenes/backdrops.py."""

from collections.abc import Callable

import numpy as np
import pytest

from sam_core.scenes import SceneConfig, backdrops
from sam_core.scenes.layers import Canvas
from sam_core.scenes.materials import MaterialShop
from sam_core.scenes.stage import Stage

_MAKERS: dict[str, Callable[[np.random.Generator, Stage], object]] = {
    "wall": backdrops.wall,
    "landscape": backdrops.landscape,
    "room": backdrops.room,
    "mosaic": lambda rng, stage: backdrops.mosaic(rng, stage, 4),
    "anything": backdrops.anything,
}


@pytest.mark.parametrize("name", _MAKERS)
def test_backdrops_fill_the_frame_with_stuff(name: str, shop: MaterialShop) -> None:
    for seed in range(10):
        stage = Stage(SceneConfig(size=96), Canvas.blank(96), shop, np.array([0.0, 0.0, 1.0]), 0.0, 0.1)
        _MAKERS[name](np.random.default_rng(seed), stage)
        assert (stage.canvas.objects > 0).all()
        assert all(stage.canvas.stuff)
        assert np.isfinite(stage.canvas.colour).all()


def test_defocus_blurs_the_picture_not_the_labels(rng: np.random.Generator, shop: MaterialShop) -> None:
    stage = Stage(SceneConfig(size=96), Canvas.blank(96), shop, np.array([0.0, 0.0, 1.0]), 0.0, 0.1)
    backdrops.mosaic(rng, stage, 5)
    labels, rough = stage.canvas.objects.copy(), np.abs(np.diff(stage.canvas.colour, axis=0)).mean()
    backdrops.defocus(stage, 3.0)
    assert np.array_equal(labels, stage.canvas.objects)
    assert np.abs(np.diff(stage.canvas.colour, axis=0)).mean() < 0.8 * rough
