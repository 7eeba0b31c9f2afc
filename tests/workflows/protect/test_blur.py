"""Regions are blurred whole, what lies around them fades, and the rest stays."""

import numpy as np
import pytest
from numpy.typing import NDArray

from workflows.protect.blur import CELLS, Region, blur

BOX = (slice(100, 180), slice(150, 250))
REGION = Region(150, 100, 100, 80, "face")


def test_only_a_few_colours_are_left(photo: NDArray[np.uint8]) -> None:
    after = blur(photo, [REGION], margin=0.0)
    assert photo[BOX].std(axis=(0, 1)).min() > 20
    cells = after[BOX].reshape(CELLS - 1, 20, CELLS, 20, 3)  # within a cell there is nothing but a slope
    bends = np.abs(np.diff(cells.astype(int), 2, axis=3))
    assert np.percentile(bends, 99) <= 6
    outside = np.ones(photo.shape[:2], bool)
    outside[BOX] = False
    assert np.array_equal(after[outside], photo[outside])


def test_the_margin_fades(photo: NDArray[np.uint8]) -> None:
    after = blur(photo, [REGION], margin=0.2).astype(int)
    change = np.abs(after - photo).mean(axis=2)
    near, far = change[100:180, 145:150].mean(), change[100:180, 131:136].mean()
    assert near > far
    assert not change[:, :128].any()


def test_nothing_of_the_region_depends_on_its_details(photo: NDArray[np.uint8]) -> None:
    """Two pictures with the same means of cells become the same."""
    other = photo.copy()
    part = other[BOX].reshape(4, 20, 5, 20, 3)
    other[BOX] = part[:, ::-1, :, ::-1].reshape(80, 100, 3)
    assert np.array_equal(blur(photo, [REGION], margin=0.0)[BOX], blur(other, [REGION], margin=0.0)[BOX])


def test_regions_at_and_beyond_the_edge(photo: NDArray[np.uint8]) -> None:
    assert np.array_equal(blur(photo, [Region(-50, -50, 20, 20, "face")], margin=0.2), photo)
    corner = blur(photo, [Region(-10, -10, 20.5, 20.5, "face")], margin=0.0)
    assert not np.array_equal(corner[:10, :10], photo[:10, :10])
    assert np.array_equal(corner[11:, 11:], photo[11:, 11:])
    assert np.array_equal(blur(photo, [Region(5.2, 5.2, 0.1, 0.1, "dot")], margin=0.2), photo)  # one px has one colour


def test_a_pixel_that_a_region_only_touches_is_blurred(photo: NDArray[np.uint8]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, photo.shape).astype(np.uint8)
    after = blur(noise, [Region(10.5, 20.5, 30, 40, "face")], margin=0.0)
    changed = (after != noise).mean(2)
    assert min(changed[20:61, 10].mean(), changed[20:61, 40].mean(), changed[20, 10:41].mean()) > 0.9
    assert changed[60, 10:41].mean() > 0.9
    assert not changed[:, [9, 41]].any()
    assert not changed[[19, 61]].any()


@pytest.mark.parametrize("side", [2, 3, 4, 5, 7])
def test_small_regions_do_not_stay_as_they_are(side: int) -> None:
    rng = np.random.default_rng(side)
    image = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    hidden = blur(image, [Region(20, 20, side, side, "plate")], margin=0.25)
    inside = np.s_[20 : 20 + side, 20 : 20 + side]
    assert hidden[inside].astype(float).std() < 0.6 * image[inside].astype(float).std()
