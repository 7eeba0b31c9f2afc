"""Image files as the benchmarks read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


def read_image(path: Path, *, longest_side: int | None = None) -> npt.NDArray[np.uint8]:
    """An image file as uint8 RGB [H, W, 3], brought to a longest side (px) if asked. Raises ValueError for other files.

    Large photographs cost more at the end of the pipeline; small ones are at hand.
    """
    try:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
    except OSError as error:
        raise ValueError(f"{path} is not a readable image: {error}") from error
    if longest_side:
        scale = longest_side / max(pixels.size)
        pixels = pixels.resize((round(pixels.width * scale), round(pixels.height * scale)), Image.Resampling.BICUBIC)
    return np.asarray(pixels)


def folder_label(folder: Path) -> str:
    """The folder's name and its parent's, by which a record names the images."""
    return "/".join(folder.absolute().parts[-2:])


def image_files(folder: Path, limit: int | None = None) -> list[Path]:
    """The first images of a folder by name. Raises ValueError when it has none."""
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise ValueError(f"{folder} has no JPEG or PNG images")
    return found[:limit]
