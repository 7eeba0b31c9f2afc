"""Small spurious parts and holes of masks: found as connected components of run lengths, removed and filled.

Pixels that touch by a side or a corner belong to one part (8-connectivity, as in the released `remove_small_regions`);
the same holds for holes. No mask is unpacked to pixels:

    runs of one colour -> pieces, cut where columns end -> components of pieces -> runs of those that are large enough

The runs of a mask are held as bounds, positions counted by columns: run k goes from bounds[k] up to bounds[k + 1], and
those with an odd k are mask.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sam_core.machine_code import entry, inner
from sam_core.masks import rle
from sam_core.masks.boxes import Boxes
from sam_core.masks.candidates import Candidates, object_column
from sam_core.recipes import SmallMaskRule

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]

BACKGROUND, MASK = 0, 1


class Rule(NamedTuple):
    """What is small, and what becomes of a mask of small parts alone, in images of one height and number of pixels."""

    height: int
    total: int
    min_area: int
    keep_largest: bool


class Pieces(NamedTuple):
    """Runs of one colour, cut where columns end, in ascending order.

    column       int64 [P]
    start, stop  int64 [P], positions in columns that are one px longer than the image's, so that the foot of a column
                 does not touch the head of the next
    """

    column: Ints
    start: Ints
    stop: Ints


def clean_candidates(
    candidates: Candidates, size: tuple[int, int], *, min_area: int, small_masks: SmallMaskRule
) -> tuple[Candidates, Flags]:
    """Encoded candidates with clean masks, boxes and areas, and which of them had small parts or holes: bool [N].

    size is that of the original image (height, width). A mask of which nothing is left has area 0. Clean masks have no
    parts and holes of fewer than `min_area` px. The order follows the source of each rule: the released code fills
    holes first and keeps the largest part of a mask that has only small ones; the paper removes parts first and leaves
    nothing of such a mask.
    """
    rule = Rule(size[0], size[0] * size[1], min_area, small_masks is SmallMaskRule.KEEP_LARGEST)
    lengths, first, boxes, areas = _clean_all(*rle.decompress_all(list(candidates.rle), size), rule)
    changed = np.diff(first) > 0
    texts = [new or old for new, old in zip(rle.compress_all(lengths, first), candidates.rle, strict=True)]
    cleaned = replace(
        candidates,
        rle=object_column(texts),
        boxes=np.where(changed[:, None], boxes, candidates.boxes),
        areas=np.where(changed, areas, candidates.areas),
    )
    return cleaned, changed


@entry
def _clean_all(lengths: Ints, first: Ints, rule: Rule) -> tuple[Ints, Ints, Boxes, Ints]:
    """Run lengths of the masks that change, none for the others, and where each mask's begin; their boxes and areas.

    lengths int64 [R] and first int64 [N + 1] as in `rle`; boxes int64 [N, 4] x0 y0 x1 y1, first and last pixel, zeros
    where there is none.
    """
    masks = len(first) - 1
    cleaned, begins = np.empty(len(lengths), np.int64), np.zeros(masks + 1, np.int64)
    boxes, areas = np.zeros((masks, 4), np.int64), np.zeros(masks, np.int64)
    for mask in range(masks):
        bounds, changed = _clean(_bounds_of_runs(lengths[first[mask] : first[mask + 1]]), rule)
        n = begins[mask]
        if changed:
            if n + len(bounds) > len(cleaned):
                cleaned = np.concatenate((cleaned, np.empty(len(cleaned) + len(bounds), np.int64)))
            for run in range(len(bounds) - 1):
                cleaned[n + run] = bounds[run + 1] - bounds[run]
            n += len(bounds) - 1
            areas[mask] = _measure(boxes[mask], _pieces(bounds, MASK, rule.height), rule.height + 1)
        begins[mask + 1] = n
    return cleaned[: begins[masks]], begins, boxes, areas


@inner
def _clean(bounds: Ints, rule: Rule) -> tuple[Ints, bool]:
    """Bounds of a mask without small parts and holes, and whether it had any."""
    if rule.keep_largest:
        filled, holes = _without_small(bounds, BACKGROUND, rule)
        clean, parts = _without_small(filled, MASK, rule)
        return clean, holes or parts
    trimmed, parts = _without_small(bounds, MASK, rule)
    if len(trimmed) == 2:  # where nothing is left, the background of a tiny image must not count as a hole
        return trimmed, parts
    clean, holes = _without_small(trimmed, BACKGROUND, rule)
    return clean, holes or parts


@inner
def _without_small(bounds: Ints, colour: int, rule: Rule) -> tuple[Ints, bool]:
    """Bounds of a mask whose small components of one colour have the other, and whether there are any.

    Where all parts are small, the first of the largest stays if the rule says so; it counts as small nevertheless.
    """
    pieces = _pieces(bounds, colour, rule.height)
    lead = _components(pieces, rule.height + 1)
    areas = _areas(pieces, lead)
    large = areas >= rule.min_area
    if large.all():
        return bounds, False
    if colour == MASK and rule.keep_largest and not large.any():
        large = lead == lead[_first_of_largest(pieces, areas, rule.height + 1)]
    return _bounds_of_pieces(pieces, large, colour, rule.total), True


@inner
def _pieces(bounds: Ints, colour: int, height: int) -> Pieces:
    """The runs of one colour, cut where columns end."""
    most = len(bounds) // 2 + bounds[-1] // height
    column, start, stop = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    n, number, foot = 0, 0, height
    for run in range(colour, len(bounds) - 1, 2):
        position = bounds[run]
        while position < bounds[run + 1]:
            while foot <= position:
                number, foot = number + 1, foot + height
            end = min(foot, bounds[run + 1])
            column[n], start[n], stop[n] = number, position + number, end + number
            position, n = end, n + 1
    return Pieces(column[:n], start[:n], stop[:n])


@inner
def _components(pieces: Pieces, stride: int) -> Ints:
    """The piece that leads each piece's component, which is its first: int64 [P]. Columns are `stride` apart."""
    lead, left = np.arange(len(pieces.start)), 0
    for right in range(len(lead)):
        while pieces.stop[left] + stride < pieces.start[right]:
            left += 1
        touching = left
        while pieces.start[touching] + stride <= pieces.stop[right]:
            one, other = _find(lead, touching), _find(lead, right)
            lead[max(one, other)] = min(one, other)
            touching += 1
    for piece in range(len(lead)):
        lead[piece] = lead[lead[piece]]
    return lead


@inner
def _find(lead: Ints, piece: int) -> int:
    """The lead of a piece's component so far; the way there is shortened."""
    while lead[piece] != piece:
        lead[piece] = lead[lead[piece]]
        piece = lead[piece]
    return piece


@inner
def _areas(pieces: Pieces, lead: Ints) -> Ints:
    """Pixels of each piece's component: int64 [P]."""
    areas = np.zeros(len(lead), np.int64)
    for piece in range(len(lead)):
        areas[lead[piece]] += pieces.stop[piece] - pieces.start[piece]
    return areas[lead]


@inner
def _first_of_largest(pieces: Pieces, areas: Ints, stride: int) -> int:
    """A piece of the largest component; of several, the one that opencv numbers first.

    It goes along the rows of an image, in blocks of 2 x 2 px.
    """
    largest, best, first = areas.max(), (stride, 0), 0
    for piece in range(len(areas)):
        row = pieces.start[piece] - pieces.column[piece] * stride
        block = (row // 2, pieces.column[piece] // 2)
        if areas[piece] == largest and block < best:
            best, first = block, piece
    return first


@inner
def _bounds_of_runs(lengths: Ints) -> Ints:
    """Bounds of a mask from its run lengths."""
    bounds, n, position = np.zeros(len(lengths) + 2, np.int64), 1, 0
    for length in lengths:
        position += length
        n = _change(bounds, n, position)
    return _ended(bounds, n, position)


@inner
def _bounds_of_pieces(pieces: Pieces, chosen: Flags, colour: int, total: int) -> Ints:
    """Bounds of a mask in which the chosen pieces have one colour, and all else the other."""
    bounds, n = np.zeros(2 * len(chosen) + 3, np.int64), 1
    if colour == BACKGROUND:
        n = _change(bounds, n, 0)
    for piece in range(len(chosen)):
        if chosen[piece]:
            n = _change(bounds, n, pieces.start[piece] - pieces.column[piece])
            n = _change(bounds, n, pieces.stop[piece] - pieces.column[piece])
    return _ended(bounds, n, total)


@inner
def _change(bounds: Ints, n: int, position: int) -> int:
    """Let the colour change at a position after n bounds; two changes at one position are none. Returns the new n."""
    if n > 1 and bounds[n - 1] == position:
        return n - 1
    bounds[n] = position
    return n + 1


@inner
def _ended(bounds: Ints, n: int, total: int) -> Ints:
    """The first n bounds, and the last pixel's as the last."""
    if n == 1 or bounds[n - 1] != total:
        bounds[n] = total
        n += 1
    return bounds[:n]


@inner
def _measure(box: Ints, pieces: Pieces, stride: int) -> int:
    """Fill in the box of pieces, x0 y0 x1 y1, zeros if there are none; returns their pixels."""
    if not len(pieces.start):
        return 0
    head = pieces.column * stride
    box[0], box[1] = pieces.column[0], (pieces.start - head).min()
    box[2], box[3] = pieces.column[-1], (pieces.stop - head).max() - 1
    pixels: int = (pieces.stop - pieces.start).sum()
    return pixels
