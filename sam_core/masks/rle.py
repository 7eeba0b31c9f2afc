"""Run-length encoding of masks, the COCO way: columns first, the first run counts background.

A mask of [H, W] pixels is read column by column; its runs alternate background, mask, background and so on, and sum to
H * W. A mask that begins with a mask pixel has a first run of 0.

Compressed counts are the same runs as text, byte for byte as pycocotools writes them: from the fourth on, a run is
stored as its difference to the run two before it; each number is cut into groups of five bits, the lowest first, as
few as hold its sign; a group is one character from '0' on, with bit 5 set where another group follows.

The run lengths of many masks lie one after the other in one array, as in `shapes`: lengths int64 [R], and first
int64 [N + 1], where those of each mask begin.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sam_core.machine_code import entry, inner

Mask = NDArray[np.bool_]
Masks = NDArray[np.bool_]
Runs = NDArray[np.int64]
Text = NDArray[np.uint8]
Groups = NDArray[np.int8]

_BITS, _SIGN, _MORE, _ZERO = 5, 0x10, 0x20, ord("0")
_MOST_BITS = 40  # enough for the runs of any image, and their differences
_TOO_LONG = -(1 << 62)  # stays negative whatever is added to it
_LONGEST = 13  # groups of any int64


def encode(mask: Mask) -> bytes:
    """COCO compressed counts of a bool mask [H, W]. Raises ValueError for any other array."""
    return compress(run_lengths(mask))


def encode_labels(labels: NDArray[np.integer]) -> dict[int, bytes]:
    """COCO compressed counts of the pixels of each value of labels [H, W] but 0, by the value, in ascending order.

    In one sweep: `encode(labels == value)` would go over the whole image for each of them.
    """
    pixels = labels.ravel(order="F")
    if not pixels.any():
        return {}
    begins = np.append(0, np.flatnonzero(pixels[1:] != pixels[:-1]) + 1)
    bounds = np.stack([begins, np.append(begins[1:], pixels.size)], axis=1)
    order = np.argsort(pixels[begins], kind="stable")
    values, first = np.unique(pixels[begins][order], return_index=True)
    parts = zip(values.tolist(), np.split(bounds[order], first[1:]), strict=True)
    return {value: compress(np.diff(np.union1d(part, pixels.size), prepend=0)) for value, part in parts if value}


def decode(rle: bytes, size: tuple[int, int]) -> Mask:
    """The bool mask [H, W] of COCO compressed counts; size is (height, width).

    Raises ValueError when the runs do not add up to the pixels of that size, or are no bytes.
    """
    if not isinstance(rle, bytes):
        raise ValueError(f"compressed counts are bytes, not {type(rle).__name__}; those of a JSON need .encode()")
    height, width = size
    runs, _ = decompress_all([rle], size)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def unpack_all(lengths: Runs, first: Runs, size: tuple[int, int]) -> Masks:
    """bool [N, H, W] of the run lengths of N masks of one size (height, width), to whose pixels they add up."""
    pixels = np.zeros((len(first) - 1, *size), np.bool_)
    _paint(lengths, first, pixels)
    return pixels


def area(rle: bytes) -> int:
    """Number of mask pixels of COCO compressed counts."""
    return int(decompress(rle)[1::2].sum())


def run_lengths(mask: Mask) -> Runs:
    """int64 run lengths of a bool mask [H, W]. Raises ValueError for any other array."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask is bool [H, W], not {mask.dtype} {list(mask.shape)}")
    pixels = mask.ravel(order="F")
    starts = np.flatnonzero(np.diff(pixels, prepend=False))
    return np.diff(starts, prepend=0, append=pixels.size)


def compress(runs: Runs) -> bytes:
    """Run lengths as COCO compressed counts."""
    return compress_all(*joined([runs]))[0]


def compress_all(lengths: Runs, first: Runs) -> list[bytes]:
    """Run lengths of many masks as COCO compressed counts; empty for a mask without any run."""
    text, begins = _pack(lengths, first)
    together = text.tobytes()
    return [together[start:end] for start, end in pairwise(begins.tolist())]


def joined(runs: Sequence[Runs]) -> tuple[Runs, Runs]:
    """The run lengths of many masks in one array, and where each mask's begin."""
    first = np.cumsum([0, *map(len, runs)], dtype=np.int64)
    return np.concatenate([np.empty(0, np.int64), *runs]), first


def decompress(rle: bytes) -> Runs:
    """int64 run lengths of COCO compressed counts. Raises ValueError when the text is none."""
    return _decompressed([rle])[0]


def decompress_all(rles: Sequence[bytes], size: tuple[int, int]) -> tuple[Runs, Runs]:
    """Run lengths of many masks of one size (height, width), and where each mask's begin.

    Raises ValueError when a text is none, or the runs of one do not add up to the pixels of that size.
    """
    (height, width), (lengths, first) = size, _decompressed(rles)
    pixels = np.add.reduceat(lengths, first[:-1])
    if (wrong := pixels[pixels != height * width]).size:
        raise ValueError(f"run lengths of {wrong[0]} px do not fit a mask of {width}x{height} px")
    return lengths, first


def _decompressed(rles: Sequence[bytes]) -> tuple[Runs, Runs]:
    groups = np.frombuffer(b"".join(rles), np.uint8) - np.uint8(_ZERO)
    begins = np.cumsum([0, *map(len, rles)], dtype=np.int64)
    if (np.diff(begins) == 0).any() or (groups >= 2 * _MORE).any():
        raise ValueError("not run lengths: empty, or a character outside of the alphabet")
    if (groups[begins[1:] - 1] & _MORE).any():
        raise ValueError("not run lengths: cut off in the middle of a number")
    lengths, first = _unpack(groups.view(np.int8), begins)
    if (lengths < 0).any():
        raise ValueError("not run lengths: a number is negative or too long")
    return lengths, first


@entry
def _paint(lengths: Runs, first: Runs, pixels: Masks) -> None:
    """Set the pixels [N, H, W] of the masks, and touch no others: they are most of a large picture."""
    height = pixels.shape[1]
    for mask in range(len(pixels)):
        position = 0
        for run in range(first[mask], first[mask + 1]):
            if (run - first[mask]) % 2 == 1:
                x, y = divmod(position, height)
                for _ in range(lengths[run]):
                    pixels[mask, y, x] = True
                    y += 1
                    if y == height:
                        x, y = x + 1, 0
            position += lengths[run]


@entry
def _pack(lengths: Runs, first: Runs) -> tuple[Text, Runs]:
    """Compressed counts of many masks one after the other, uint8 [B], and where each begins, int64 [N + 1]."""
    text, begins, n = np.empty(_LONGEST * len(lengths), np.uint8), np.zeros(len(first), np.int64), 0
    for mask in range(len(first) - 1):
        for run in range(first[mask], first[mask + 1]):
            before = lengths[run - 2] if run - first[mask] > 2 else 0
            n = _write(text, n, lengths[run] - before)
        begins[mask + 1] = n
    return text[:n], begins


@inner
def _write(text: Text, n: int, number: int) -> int:
    """Put a number into the text from position n on; returns where the next one begins."""
    last = False
    while not last:
        group = number & (_MORE - 1)
        number >>= _BITS
        last = number == (-1 if group & _SIGN else 0)  # the group and its sign bit say all that is left
        text[n] = group + _ZERO + (0 if last else _MORE)
        n += 1
    return n


@entry
def _unpack(groups: Groups, begins: Runs) -> tuple[Runs, Runs]:
    """Run lengths of many masks, and where each mask's begin; negative where they are none.

    groups  int8 [B], each from 0 up to 2 * _MORE; the last of a mask is the last of a number
    begins  int64 [N + 1], where the groups of each mask begin
    """
    lengths, first, n = np.empty(len(groups), np.int64), np.zeros(len(begins), np.int64), 0
    for mask in range(len(begins) - 1):
        position = begins[mask]
        while position < begins[mask + 1]:
            position, number = _read(groups, position)
            lengths[n] = number + lengths[n - 2] if n - first[mask] > 2 else number
            n += 1
        first[mask + 1] = n
    return lengths[:n], first


@inner
def _read(groups: Groups, position: int) -> tuple[int, int]:
    """Where the next number begins, and the one at this position."""
    number, bits, group = 0, 0, _MORE
    while group & _MORE:
        group = groups[position]
        number |= (group & (_MORE - 1)) << bits
        bits += _BITS
        position += 1
    if bits > _MOST_BITS:
        return position, _TOO_LONG
    return position, number - (1 << bits if group & _SIGN else 0)
