"""Label images: PNGs whose values tell masks apart, 0 where there is none."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from workflows.images import ImageError, decode_indices, read_header

_VOID = 255
"""What Pascal VOC, whose label images have palettes, gives to borders and to what is left open."""
_SIGNATURE, _COLOUR_TYPE, _PALETTE = b"\x89PNG\r\n\x1a\n", 25, 3
"""Of a PNG: how it begins, where it says how colours are told, and that a palette tells them."""


def decode_labels(data: bytes, where: str) -> NDArray[np.integer]:
    """Labels [H, W] of a PNG: the values of a grey one of any depth, the indices of one with a palette, but 255.

    Raises ValueError, one line, when it is something else, or larger than MAX_PIXELS.
    """
    try:
        labels = _indices(data) if _has_palette(data) else _values(data)
    except ImageError as error:
        raise ValueError(f"{where}: {error}") from error
    if labels is None or labels.ndim != 2:
        raise ValueError(f"{where}: not a label image, a PNG that is grey or has a palette")
    return labels


def _has_palette(data: bytes) -> bool:
    return data.startswith(_SIGNATURE) and data[_COLOUR_TYPE : _COLOUR_TYPE + 1] == bytes([_PALETTE])


def _values(data: bytes) -> NDArray[np.integer] | None:
    """None for what is no PNG: a JPEG makes up values along every border, each of which would be a label."""
    if not data.startswith(_SIGNATURE):
        return None
    read_header(data)  # OpenCV's own limit is 2^30 px, of 8 bytes each
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def _indices(data: bytes) -> NDArray[np.uint8]:
    """OpenCV gives the colours of a palette and forgets its indices."""
    indices = decode_indices(data)
    indices[indices == _VOID] = 0
    return indices
