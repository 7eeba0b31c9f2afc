"""The camera of sam_core/scenes/camera.py keeps things in place."""

import numpy as np
import pytest

from sam_core.scenes.camera import photograph
from sam_core.scenes.textures import texture_bank


@pytest.mark.parametrize("size", [96, 640])
def test_edges_stay_where_they_are(size: int) -> None:
    canvas = np.zeros((size, size, 3), np.float32)
    canvas[:, size // 3 :] = 0.8
    places = []
    for seed in range(25):
        image = photograph(np.random.default_rng(seed), canvas, texture_bank(0), grey=False, metered=True)
        assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)
        profile = image[size // 4 : -size // 4].mean((0, 2))
        window = profile[size // 3 - 12 : size // 3 + 12]
        places.append(int(np.abs(np.diff(window)).argmax()) - 11)
    assert np.abs(places).max() <= 3 * size / 256 + 1
    assert np.abs(np.median(places)) <= 1


def test_grey_is_grey_up_to_the_files_rounding(rng: np.random.Generator) -> None:
    canvas = rng.random((96, 96, 3), dtype=np.float32)
    for seed in range(6):
        image = photograph(np.random.default_rng(seed), canvas, texture_bank(0), grey=True, metered=False)
        assert np.ptp(image.astype(int), axis=2).max() <= 2


def test_metering_brightens_the_dark() -> None:
    dark = np.full((96, 96, 3), 0.05, np.float32)
    means = [
        np.mean(
            [
                photograph(np.random.default_rng(s), dark, texture_bank(0), grey=False, metered=m).mean()
                for s in range(8)
            ]
        )
        for m in (False, True)
    ]
    assert means[1] > 2 * means[0]
