"""Thinning against scikit-image's, on blobs, noise and lines that people drew."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.morphology import thin as reference

from sam_core.metrics.thinning import thin


@pytest.mark.parametrize("seed", range(4))
def test_blobs_and_noise_as_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.random((60, 70))
    blobs = cv2.GaussianBlur(noise, (0, 0), 2.0)
    for mask in (noise > 0.4, blobs > np.median(blobs), np.ones((9, 12), bool), np.zeros((5, 5), bool)):
        np.testing.assert_array_equal(thin(mask), reference(mask))


def test_thick_lines_of_a_photograph_as_scikit_image(sample_data: Callable[[str], Path]) -> None:
    picture = cv2.imread(str(next((sample_data("bsds500") / "images" / "val").glob("*.jpg"))), cv2.IMREAD_GRAYSCALE)
    edges = cv2.dilate(cv2.Canny(picture, 80, 160), np.ones((3, 3), np.uint8)) > 0
    np.testing.assert_array_equal(thin(edges), reference(edges))
