"""Label images: PNGs whose values tell masks apart, 0 where there is none."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

VOID = 255
"""What Pascal VOC, whose label images have palettes, gives to borders and to what is left open."""
_COLOUR_TYPE, _PALETTE = 25, 3  # of a PNG: where its header says how colours are told, and that a palette tells them


def decode_labels(data: bytes, where: str) -> NDArray[np.integer]:
    """Labels [H, W] of a PNG: the values of a grey one of any depth, the indices of one with a palette but VOID.

    Raises ValueError, one line, when it is something else.
    """
    labels = _indices(data) if data[_COLOUR_TYPE : _COLOUR_TYPE + 1] == bytes([_PALETTE]) else _values(data)
    if labels is None or labels.ndim != 2:
        raise ValueError(f"{where}: not a label image, which is grey or has a palette")
    return labels


def _values(data: bytes) -> NDArray[np.integer] | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None


def _indices(data: bytes) -> NDArray[np.integer] | None:
    """OpenCV gives the colours of a palette and forgets its indices."""
    try:
        indices = np.array(Image.open(io.BytesIO(data), formats=("PNG",)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    indices[indices == VOID] = 0
    return indices
