"""Masks that overlap, laid into as many layers of labels as it takes, from their run lengths: none is unpacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sam_core.machine_code import entry, inner
from sam_core.masks.rle import Runs, decompress_all

MOST_LABELS = 65_535

Labels = NDArray[np.uint16]


def label_layers(
    rles: Sequence[bytes], size: tuple[int, int], *, most: int = MOST_LABELS
) -> Iterator[tuple[Labels, NDArray[np.int64]]]:
    """Layers of labels, at least one, made as they are asked for: a mask lies in the first where its pixels are free.

    One layer of a photograph of 12 MP takes 24 MB, and thousands of masks may lie in a hundred of them.

    Args:
        rles: COCO compressed counts of N masks of an image of `size` (height, width), px.
        most: labels of a layer.

    Returns:
        for each layer uint16 [height, width], and int64 [N], the label of each mask in it; 0 is none.

    Raises:
        ValueError: counts are none of a mask of that size.
    """
    height, width = size
    lengths, first = decompress_all(rles, size)
    waiting = np.ones(len(rles), np.bool_)
    while True:
        pixels = np.zeros(width * height, np.uint16)
        labels = _draw(lengths, first, waiting, pixels, most)
        yield pixels.reshape(width, height).T, labels
        waiting &= labels == 0
        if not waiting.any():
            return


@entry
def _draw(lengths: Runs, first: Runs, waiting: NDArray[np.bool_], pixels: Labels, most: int) -> NDArray[np.int64]:
    """Draw the waiting masks that fit into pixels [W * H], which are all 0; the label of each of all masks, or 0."""
    labels = np.zeros(len(waiting), np.int64)
    drawn = 0
    for mask in range(len(waiting)):
        if drawn == most:
            break
        if waiting[mask] and _is_free(lengths[first[mask] : first[mask + 1]], pixels):
            drawn += 1
            labels[mask] = drawn
            _fill(lengths[first[mask] : first[mask + 1]], pixels, drawn)
    return labels


@inner
def _is_free(runs: Runs, pixels: Labels) -> bool:
    start = 0
    for run in range(len(runs)):
        stop = start + runs[run]
        if run % 2 == 1 and pixels[start:stop].any():
            return False
        start = stop
    return True


@inner
def _fill(runs: Runs, pixels: Labels, label: int) -> None:
    start = 0
    for run in range(len(runs)):
        stop = start + runs[run]
        if run % 2 == 1:
            pixels[start:stop] = label
        start = stop
