"""Depths in masks against scipy's distance transform, in float64."""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from sam_core.masks.depth import depths_of
from sam_core.metrics.clicks import deepest_pixel
from sam_core.training.centres import draw_centres


def blobs() -> Iterator[np.ndarray]:
    """Several regions each, some of them up to the border of their image."""
    rng = np.random.default_rng(0)
    for size in rng.integers(16, 120, 60).tolist():
        yield gaussian_filter(rng.normal(size=(size, size + 3)), 6) > 0


def discs() -> Iterator[np.ndarray]:
    """Between pixels, so that four of them are equally deep."""
    for size in range(32, 40):
        y, x = np.mgrid[:size, :size] - (size - 1) / 2
        for radius in np.arange(9, 15, 0.2):
            yield x * x + y * y <= radius**2


def true_squares(mask: np.ndarray) -> np.ndarray:
    return np.rint(distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] ** 2)


def test_squares_are_exact() -> None:
    for mask in (*blobs(), np.ones((2801, 2801), bool), np.ones((1, 1), bool)):
        left, top, squared = depths_of(mask)
        height, width = squared.shape
        outside = mask.copy()
        outside[top : top + height, left : left + width] = False
        assert not outside.any()
        assert np.array_equal(squared, true_squares(mask)[top : top + height, left : left + width])


def test_the_same_wherever_memory_is() -> None:
    """Of equally deep pixels the first is the deepest, and all of them are in the core or none."""
    rng = np.random.default_rng(0)
    for mask in discs():
        y, x = divmod(int(true_squares(mask).argmax()), mask.shape[1])
        first = draw_centres(mask[None], np.random.default_rng(1))
        for _ in range(20):
            kept = [rng.bytes(size) for size in rng.integers(1, 5000, 3).tolist()]  # what is made next lies elsewhere
            assert deepest_pixel(mask)[:2] == (x, y)
            assert np.array_equal(draw_centres(mask[None], np.random.default_rng(1)), first)
            del kept
