"""Image files as the benchmarks read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """An image file as uint8 RGB [H, W, 3]. Raises ValueError when it is none."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise ValueError(f"{path} is not a readable image: {error}") from error


def image_files(folder: Path, limit: int | None = None) -> list[Path]:
    """The first images of a folder by name. Raises ValueError when it has none."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise ValueError(f"{folder} has no JPEG or PNG images")
    return found[:limit]
