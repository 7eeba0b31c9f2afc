"""Masks that annotation tools write as pixels or outlines, as COCO compressed counts over the whole image."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sam_core.masks.rle import encode
from schemas.coco import rle_of

_CHANNELS = 4
_OPAQUE = 3
_ALONE = threading.Lock()
"""One mask is unpacked at a time: it takes 8 bytes for every pixel that its document states, and readers are many."""


def polygon_rle(corners: Sequence[tuple[float, float]], *, height: int, width: int) -> bytes:
    """A polygon of xy corners in px, filled as COCO's tools fill it. Raises ValueError."""
    return rle_of((tuple(float(value) for corner in corners for value in corner),), height=height, width=width)


def box_runs_rle(runs: Sequence[int], box: tuple[int, int, int, int], *, height: int, width: int) -> bytes:
    """CVAT's masks: run lengths along the rows of a box xywh (px), background first.

    Raises ValueError when they do not fill the box, or the box leaves the image.
    """
    x, y, w, h = box
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise ValueError(f"its box {x},{y} {w}x{h} leaves the image of {width}x{height} px")
    if min(runs, default=0) < 0 or sum(runs) != w * h:
        raise ValueError(f"its run lengths do not fill its box of {w}x{h} px")
    with _ALONE:
        mask = np.zeros((height, width), bool)
        mask[y : y + h, x : x + w] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(h, w)
        return encode(mask)


def brush_rle(packed: Sequence[int], *, height: int, width: int) -> bytes:
    """Label Studio's brush: RGBA pixels along the rows, packed as bits (thi.ng/rle-pack); what can be seen is mask.

    Layout: 32 bits number of values, 5 bits word size - 1, four times 4 bits a run size - 1; then blocks of 1 bit "same
    value", 2 bits which run size, the length - 1, and one value or as many as the length says.

    Raises ValueError when it is cut off or not of so many pixels.
    """
    try:
        bits = _Bits(np.unpackbits(np.frombuffer(bytes(packed), np.uint8)))
    except ValueError as error:
        raise ValueError("its brush is no list of bytes") from error
    count, word = bits.read(32), bits.read(5) + 1
    if count != height * width * _CHANNELS or word != 8:
        raise ValueError(f"its brush holds {count} values of {word} bits, not RGBA of {width}x{height} px")
    with _ALONE:
        values = _unpacked(bits, count)
        return encode(values.reshape(height, width, _CHANNELS)[:, :, _OPAQUE] > 0)


def _unpacked(bits: _Bits, count: int) -> NDArray[np.uint8]:
    """The values behind the head of a brush, so many bytes. Raises ValueError."""
    sizes = [bits.read(4) + 1 for _ in range(4)]
    values = np.zeros(count, np.uint8)
    at = 0
    while at < count:
        same = bits.read(1)
        length = bits.read(sizes[bits.read(2)]) + 1
        if at + length > count:
            raise ValueError("its brush holds more pixels than it says")
        values[at : at + length] = bits.read(8) if same else bits.words(length)
        at += length
    return values


class _Bits:
    """Numbers out of a row of bits, the highest bit first."""

    def __init__(self, bits: NDArray[np.uint8]) -> None:
        self._bits, self._at = bits, 0

    def read(self, size: int) -> int:
        return int.from_bytes(np.packbits(self._take(size)).tobytes(), "big") >> (-size % 8)

    def words(self, count: int) -> NDArray[np.uint8]:
        """So many bytes."""
        return np.packbits(self._take(8 * count))

    def _take(self, size: int) -> NDArray[np.uint8]:
        self._at += size
        if self._at > len(self._bits):
            raise ValueError("its brush is cut off")
        return self._bits[self._at - size : self._at]
