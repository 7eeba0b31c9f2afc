"""Masks painted over an image: translucent fills with a thin border, the largest mask at the bottom."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam_core.masks.batch import MaskRecords
from sam_core.masks.rle import decompress

Image = NDArray[np.uint8]

_FILL, _BORDER = 0.42, 0.95
_GOLDEN = (5**0.5 - 1) / 2
_PIXELS_PER_BORDER = 800
_ROWS_AT_ONCE = 256
"""Rows of the picture that are held in float32."""
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def overlay(image: Image, masks: MaskRecords, *, seed: int = 0) -> Image:
    """The image with its masks painted over it.

    Args:
        image: uint8 RGB [height, width, 3], the masks' image at any scale.
        masks: masks of that image.
        seed: of the colours.

    Returns:
        uint8 RGB, of the same shape.
    """
    layer, painted = paint(masks, (image.shape[0], image.shape[1]), seed=seed), np.empty_like(image)
    for top in range(0, len(image), _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        opacity = layer[rows, :, 3:].astype(np.float32) / 255
        painted[rows] = image[rows] * (1 - opacity) + layer[rows, :, :3] * opacity + 0.5
    return painted


def paint(masks: MaskRecords, size: tuple[int, int], *, seed: int = 0, palette: Image | None = None) -> Image:
    """The masks alone on a transparent ground.

    A smaller mask replaces what lies under it, so that every pixel lets the same share of the image through.

    Args:
        masks: masks of one image, at its original size.
        size: (height, width) of the result, px; the masks are sampled at its pixels' centres.
        seed: of the colours.
        palette: the colour of each mask, uint8 RGB [N, 3]; drawn at random when not given.

    Returns:
        uint8 RGBA [height, width, 4], alpha not multiplied in.
    """
    layer = np.zeros((*size, 4), np.uint8)
    border = max(1, round(max(size) / _PIXELS_PER_BORDER))
    biggest_first = np.argsort(-masks.areas, kind="stable")
    chosen = colours(len(masks), seed=seed) if palette is None else palette[biggest_first]
    for mask, colour in zip(biggest_first, chosen, strict=True):
        rows, columns, inside = _sample(masks.rle[mask], masks.boxes[mask], masks.size, size)
        part = layer[rows, columns]
        part[inside] = (*colour, round(255 * _FILL))
        part[_edge(inside, border)] = (*_lighter(colour), round(255 * _BORDER))
    return layer


def colours(count: int, *, seed: int = 0) -> Image:
    """Bright colours of about equal lightness whose hues keep apart: uint8 RGB [count, 3].

    The first ones do not depend on `count`.
    """
    rng = np.random.default_rng(seed)
    hue = 2 * np.pi * (rng.random() + _GOLDEN * np.arange(count))
    lightness, chroma = rng.uniform((60, 55), (80, 85), size=(count, 2)).T
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1).astype(np.float32)
    rgb = cv2.cvtColor(lab[None], cv2.COLOR_LAB2RGB)[0] if count else lab
    return np.rint(255 * rgb).astype(np.uint8)


def _sample(
    rle: bytes, box: NDArray[np.int64], original: tuple[int, int], size: tuple[int, int]
) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Rows, columns and pixels of a mask at another size, without ever unpacking it at its own.

    A pixel is looked up by its place in the runs, so the work grows with the pixels shown, not with the image.
    """
    x, y, width, height = box
    rows, ys = _around(y, y + height, original[0], size[0])
    columns, xs = _around(x, x + width, original[1], size[1])
    run_ends = np.cumsum(decompress(rle))
    run = np.searchsorted(run_ends, xs[None, :] * original[0] + ys[:, None], side="right")
    return rows, columns, run % 2 == 1


def _around(start: int, stop: int, original: int, size: int) -> tuple[slice, NDArray[np.int64]]:
    """Which of `size` pixels have their centre in [start, stop) of `original` ones, one more on each side if there is
    one, and where those centres lie."""
    centres = (2 * np.arange(size) + 1) * original // (2 * size)
    first, last = np.searchsorted(centres, (start, stop))
    shown = slice(max(0, int(first) - 1), min(size, int(last) + 1))
    return shown, centres[shown]


def _edge(inside: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Pixels of a mask that lie within `width` px of its outside; beyond the array is not outside."""
    core = cv2.erode(inside.astype(np.uint8), _CROSS, iterations=width)
    return np.asarray(inside & (core == 0))


def _lighter(colour: Image) -> list[int]:
    return [(int(channel) + 255) // 2 for channel in colour]
