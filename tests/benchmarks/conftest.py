"""A data set small enough to evaluate in a second."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    """Two images with two discs each."""
    folder = tmp_path / "nuclei"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for name, shift in (("a", 0), ("b", 6)):
        labels = np.zeros((60, 80), np.uint16)
        cv2.circle(labels, (20 + shift, 20), 9, 1, -1)
        cv2.circle(labels, (55, 35 + shift), 12, 2, -1)
        cv2.imwrite(str(folder / "labels" / f"{name}.png"), labels)
        Image.fromarray(np.repeat((labels > 0)[..., None] * np.uint8(180), 3, -1)).save(
            folder / "images" / f"{name}.png"
        )
    return folder
