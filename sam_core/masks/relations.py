"""How the masks of one image lie in one another: which is a part of which, and which are the same thing twice.

The box NMS of the generator compares boxes alone, so two masks of one thing survive it when their boxes differ enough;
here masks are compared pixel by pixel, on their run lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from sam_core.masks.rle import decompress_all

NONE = -1

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
    shared = _shared_pixels(rles, areas, size)
    iou = shared / np.maximum(areas[:, None] + areas[None, :] - shared, 1)
    duplicate_of = _duplicates(iou >= duplicate_iou)
    share = shared / areas[:, None]
    lies_in = (share >= containment) & (areas[None, :] > areas[:, None]) & (iou < duplicate_iou)
    lies_in &= (duplicate_of == NONE)[None, :]
    parent = _extreme(lies_in, areas.astype(np.float64))
    kept = np.arange(len(areas))
    return Relations(
        parent=parent,
        whole=_extreme(lies_in, -areas.astype(np.float64)),
        depth=_depth(parent, areas),
        parts=np.bincount(parent[parent != NONE], minlength=len(areas)).astype(np.int64),
        inside=np.where(parent == NONE, np.nan, share[kept, parent] if len(areas) else np.nan),
        duplicate_of=duplicate_of,
        duplicate_iou=np.where(duplicate_of == NONE, np.nan, iou[kept, duplicate_of] if len(areas) else np.nan),
    )


def _shared_pixels(rles: Sequence[bytes], areas: Ints, size: tuple[int, int]) -> Ints:
    """int64 [N, N]: pixels that two masks have in common."""
    if not len(rles):
        return np.zeros((0, 0), np.int64)
    decompress_all(rles, size)  # else pycocotools never ends, or writes where it may not
    masks = [{"size": list(size), "counts": counts} for counts in rles]
    of_first = np.asarray(coco_mask.iou(masks, masks, [1] * len(masks)))  # as crowds: over the area of the first
    shared: Ints = np.rint(of_first * areas[:, None]).astype(np.int64)
    return shared


def _duplicates(same: NDArray[np.bool_]) -> Ints:
    """For each mask the first earlier one that is kept and the same; NONE for those that are kept themselves."""
    duplicate_of = np.full(len(same), NONE, np.int64)
    for mask in range(1, len(same)):
        earlier = np.flatnonzero(same[mask, :mask] & (duplicate_of[:mask] == NONE))
        if earlier.size:
            duplicate_of[mask] = earlier[0]
    return duplicate_of


def _extreme(lies_in: NDArray[np.bool_], order: Shares) -> Ints:
    """Of the masks that each one lies in the first by `order`; among equals the better one. NONE if there is none."""
    if not len(lies_in):
        return np.zeros(0, np.int64)
    best: Ints = np.where(lies_in, order[None, :], np.inf).argmin(axis=1)
    return np.where(lies_in.any(axis=1), best, NONE)


def _depth(parent: Ints, areas: Ints) -> Ints:
    """Length of the way up; parents are larger, so the largest come first."""
    depth = np.zeros(len(parent), np.int64)
    for mask in np.argsort(-areas, kind="stable"):
        if parent[mask] != NONE:
            depth[mask] = depth[parent[mask]] + 1
    return depth
