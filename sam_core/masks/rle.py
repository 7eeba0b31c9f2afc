"""Run-length encoding of masks, the COCO way: columns first, the first run counts background.

A mask of [H, W] pixels is read column by column; its runs alternate background, mask, background and so on, and sum to
H * W. A mask that begins with a mask pixel has a first run of 0.

Compressed counts are the same runs as text, byte for byte as pycocotools writes them: from the fourth on, a run is
stored as its difference to the run two before it; each number is cut into groups of five bits, the lowest first, as
few as hold its sign; a group is one character from '0' on, with bit 5 set where another group follows.
"""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Runs = NDArray[np.int64]

_BITS, _SIGN, _MORE, _ZERO = 5, 0x10, 0x20, ord("0")
_GROUPS = np.arange(8)  # 40 bits: the runs of any image, and their differences


def encode(mask: Mask) -> bytes:
    """COCO compressed counts of a bool mask [H, W]."""
    return compress(run_lengths(mask))


def decode(rle: bytes, size: tuple[int, int]) -> Mask:
    """The bool mask [H, W] of COCO compressed counts; size is (height, width).

    Raises ValueError when the runs do not add up to the pixels of that size.
    """
    height, width = size
    runs = decompress(rle)
    if runs.sum() != height * width:
        raise ValueError(f"run lengths of {runs.sum()} px do not fit a mask of {width}x{height} px")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def area(rle: bytes) -> int:
    """Number of mask pixels of COCO compressed counts."""
    return int(decompress(rle)[1::2].sum())


def run_lengths(mask: Mask) -> Runs:
    """int64 run lengths of a bool mask [H, W]."""
    pixels = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(pixels, prepend=False))
    return np.diff(starts, prepend=0, append=pixels.size)


def compress(runs: Runs) -> bytes:
    """Run lengths as COCO compressed counts."""
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    rest = numbers[:, None] >> (_BITS * _GROUPS)
    groups = rest & (2 * _SIGN - 1)
    # A group is the last when it and its sign bit already say all the bits above.
    complete = (rest >= -_SIGN) & (rest < _SIGN)
    last = complete.argmax(axis=1)[:, None]
    text = groups + _ZERO + np.where(last > _GROUPS, _MORE, 0)
    packed: bytes = text[last >= _GROUPS].astype(np.uint8).tobytes()
    return packed


def decompress(rle: bytes) -> Runs:
    """int64 run lengths of COCO compressed counts. Raises ValueError when the text is none."""
    groups = np.frombuffer(rle, dtype=np.uint8).astype(np.int64) - _ZERO
    last = np.flatnonzero(groups < _MORE)
    _require_counts(groups, last)
    first = np.concatenate([[0], last[:-1] + 1])
    length = last - first + 1
    shift = _BITS * (np.arange(len(groups)) - np.repeat(first, length))
    numbers = np.add.reduceat((groups & (_MORE - 1)) << shift, first)
    numbers -= np.where(groups[last] & _SIGN, 1 << (_BITS * length), 0)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    if numbers.min() < 0:
        raise ValueError("not run lengths: one is negative")
    return numbers


def _require_counts(groups: Runs, last: Runs) -> None:
    """Raise ValueError unless groups of bits are whole numbers of at most 40 bits; `last` is where numbers end."""
    if not groups.size or groups.min() < 0 or groups.max() >= 2 * _MORE:
        raise ValueError("not run lengths: empty, or a character outside of the alphabet")
    if not last.size or last[-1] != len(groups) - 1 or np.diff(last, prepend=-1).max() > len(_GROUPS):
        raise ValueError("not run lengths: a number is cut off or too long")
