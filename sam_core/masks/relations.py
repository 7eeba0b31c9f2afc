"""How the masks of one image lie in one another: which is a part of which, and which are the same thing twice.

The box NMS of the generator compares boxes alone, so two masks of one thing survive it when their boxes differ enough;
here masks are compared pixel by pixel, on their run lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from sam_core.masks.rle import decompress_all

NONE = -1
_MASKS_AT_ONCE = 256
"""Masks that are compared with all others of their image at a time."""

Ints = NDArray[np.int64]
Shares = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Relations:
    """Columns over the N masks of an image; positions are in the order in which the masks were given.

    parent         int64 [N], the smallest mask that this one lies in; NONE at the top
    whole          int64 [N], the largest mask that this one lies in; NONE at the top
    depth          int64 [N], masks above this one, following parents: 0 at the top
    parts          int64 [N], masks whose parent this is
    inside         float64 [N], share of this mask's pixels in its parent; NaN at the top
    duplicate_of   int64 [N], the better mask that this one repeats; NONE for those to keep
    duplicate_iou  float64 [N], IoU of the two; NaN for those to keep
    """

    parent: Ints
    whole: Ints
    depth: Ints
    parts: Ints
    inside: Shares
    duplicate_of: Ints
    duplicate_iou: Shares

    def __len__(self) -> int:
        return len(self.parent)


def relate(
    rles: Sequence[bytes], areas: Ints, size: tuple[int, int], *, containment: float, duplicate_iou: float
) -> Relations:
    """Relations of the masks of one image.

    A mask lies in a larger one when at least the share `containment` of its pixels does and the two are no duplicates.
    Of masks with an IoU of at least `duplicate_iou` the first is kept, as in NMS; duplicates have no parts.

    Args:
        rles: COCO compressed counts, best mask first.
        areas: int64 [N], px, all above 0.
        size: (height, width) of the image, px.
        containment, duplicate_iou: fractions above 0.5, at most 1; else two masks could each lie in the other.

    Raises:
        ValueError: a fraction is outside of its range, lengths differ, or counts are none of a mask of that size.
    """
    if not (0.5 < containment <= 1 and 0.5 < duplicate_iou <= 1):
        raise ValueError(f"containment {containment} and duplicate IoU {duplicate_iou} must be above 0.5, at most 1")
    if len(rles) != len(areas):
        raise ValueError(f"{len(rles)} masks with {len(areas)} areas")
    pairs = _pairs(rles, areas, size, least=min(containment, duplicate_iou))
    one, other = pairs.one, pairs.other
    iou = pairs.shared / np.maximum(areas[one] + areas[other] - pairs.shared, 1)
    same = iou >= duplicate_iou
    copies = _duplicates(pairs, same, len(areas))
    share = pairs.shared / areas[one]
    kept = (copies == NONE)[other]
    lies_in = np.flatnonzero((share >= containment) & (areas[other] > areas[one]) & ~same & kept)
    above = _extreme(pairs, lies_in, areas[other], len(areas))
    parent = _of(other, above, NONE)
    return Relations(
        parent=parent,
        whole=_of(other, _extreme(pairs, lies_in, -areas[other], len(areas)), NONE),
        depth=_depth(parent, areas),
        parts=np.bincount(parent[parent != NONE], minlength=len(areas)).astype(np.int64),
        inside=_of(share, above, np.nan),
        duplicate_of=_of(other, copies, NONE),
        duplicate_iou=_of(iou, copies, np.nan),
    )


class _Pairs(NamedTuple):
    """Pairs of masks, by the first, then by the second: positions int64 [P], and pixels int64 [P] that both have."""

    one: Ints
    other: Ints
    shared: Ints


def _pairs(rles: Sequence[bytes], areas: Ints, size: tuple[int, int], *, least: float) -> _Pairs:
    """Pairs that share at least this part of the first mask: few of all, which of thousands of masks would take GBs."""
    decompress_all(rles, size)  # else pycocotools never ends, or writes where it may not
    masks = [{"size": list(size), "counts": counts} for counts in rles]
    found = [_Pairs(*np.zeros((3, 0), np.int64))]
    for start in range(0, len(masks), _MASKS_AT_ONCE):
        some = slice(start, start + _MASKS_AT_ONCE)
        of_first = np.asarray(coco_mask.iou(masks[some], masks, [1] * len(masks)))  # as crowds: over the first's area
        shared = np.rint(of_first * areas[some, None]).astype(np.int64)
        near = shared / areas[some, None] >= least
        near[np.arange(len(near)), np.arange(len(near)) + start] = False
        one, other = np.nonzero(near)
        found.append(_Pairs(one + start, other, shared[one, other]))
    return _Pairs(*map(np.concatenate, zip(*found, strict=True)))


def _duplicates(pairs: _Pairs, same: NDArray[np.bool_], count: int) -> Ints:
    """For each mask the pair with the first earlier one that is kept and the same; NONE for those that are kept."""
    copies = np.full(count, NONE, np.int64)
    for pair in np.flatnonzero(same & (pairs.other < pairs.one)).tolist():
        if copies[pairs.one[pair]] == NONE and copies[pairs.other[pair]] == NONE:
            copies[pairs.one[pair]] = pair
    return copies


def _extreme(pairs: _Pairs, chosen: Ints, order: Ints, count: int) -> Ints:
    """For each mask the first of its chosen pairs by `order`; among equals that with the better mask. NONE if none."""
    ranked = chosen[np.lexsort((pairs.other[chosen], order[chosen], pairs.one[chosen]))]
    masks, first = np.unique(pairs.one[ranked], return_index=True)
    best = np.full(count, NONE, np.int64)
    best[masks] = ranked[first]
    return best


def _of(values: NDArray[Any], places: Ints, missing: float) -> NDArray[Any]:
    """The values at these places, `missing` where one is NONE."""
    found = np.full(len(places), missing, values.dtype)
    there = places != NONE
    found[there] = values[places[there]]
    return found


def _depth(parent: Ints, areas: Ints) -> Ints:
    """Length of the way up; parents are larger, so the largest come first."""
    depth = np.zeros(len(parent), np.int64)
    for mask in np.argsort(-areas, kind="stable"):
        if parent[mask] != NONE:
            depth[mask] = depth[parent[mask]] + 1
    return depth
