"""The masks of one image as run lengths, unpacked when they are looked at.

As pixels every mask of a photograph of 12 MP takes 12 MB, whatever its object's size, and an image may have thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_core.masks import rle


@dataclass(frozen=True, slots=True)
class PackedMasks:
    """N masks of an image of `size` (height, width) px: their COCO compressed counts."""

    size: tuple[int, int]
    rles: tuple[bytes, ...]

    @classmethod
    def of(cls, masks: NDArray[np.bool_]) -> PackedMasks:
        """Of pixels, bool [N, H, W]."""
        return cls((masks.shape[1], masks.shape[2]), tuple(map(rle.encode, masks)))

    def __len__(self) -> int:
        return len(self.rles)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        """Each as pixels, bool [H, W], one after the other."""
        return (rle.decode(counts, self.size) for counts in self.rles)

    def __getitem__(self, some: slice) -> PackedMasks:
        return PackedMasks(self.size, self.rles[some])

    def at(self, places: Iterable[int]) -> PackedMasks:
        """Those at these places, in this order."""
        return PackedMasks(self.size, tuple(self.rles[place] for place in places))

    def dense(self) -> NDArray[np.bool_]:
        """All of them as pixels at once: bool [N, H, W]."""
        return rle.unpack_all(*rle.decompress_all(self.rles, self.size), self.size)
