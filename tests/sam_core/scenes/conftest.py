"""Pieces of a scene to test with."""

import numpy as np
import pytest

from sam_core.scenes.materials import MaterialShop, Palette
from sam_core.scenes.textures import texture_bank


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def shop() -> MaterialShop:
    """Materials from two plain colours."""
    return MaterialShop(texture_bank(0), Palette(np.array([[0.8, 0.2, 0.2], [0.2, 0.3, 0.7]])), 128)
