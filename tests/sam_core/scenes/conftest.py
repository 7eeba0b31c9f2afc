"""Pieces of a scene to test with."""

import cv2
import numpy as np
import pytest
from skimage import data

from sam_core.scenes import CutOut, cut_out
from sam_core.scenes.kernels import UInt8
from sam_core.scenes.materials import MaterialShop, Palette
from sam_core.scenes.textures import texture_bank


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def shop() -> MaterialShop:
    """Materials from two plain colours."""
    return MaterialShop(texture_bank(0), Palette(np.array([[0.8, 0.2, 0.2], [0.2, 0.3, 0.7]])), 128)


@pytest.fixture
def mug() -> tuple[UInt8, UInt8]:
    """A part of a photograph in the shape of a disc with a handle: RGB [400, 500, 3] and opacity [400, 500]."""
    alpha = np.zeros((400, 500), np.uint8)
    cv2.circle(alpha, (220, 200), 150, 255, -1)
    cv2.circle(alpha, (380, 200), 60, 255, 25)
    return data.coffee()[:400, :500].copy(), alpha


@pytest.fixture
def thing(mug: tuple[UInt8, UInt8]) -> CutOut:
    """The mug, cut out."""
    found = cut_out(*mug)
    assert found is not None
    return found
