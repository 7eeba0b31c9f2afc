"""Small spurious parts and holes of masks: found as connected components, removed and filled.

Pixels that touch by a side or a corner belong to one part (8-connectivity, as in the released `remove_small_regions`);
the same holds for holes.
"""

from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.masks import rle
from sam_core.masks.boxes import tight_boxes
from sam_core.masks.candidates import Candidates
from sam_core.recipes import SmallMaskRule

Mask = NDArray[np.bool_]


def clean_candidates(
    candidates: Candidates, size: tuple[int, int], *, min_area: int, small_masks: SmallMaskRule
) -> tuple[Candidates, NDArray[np.bool_]]:
    """Encoded candidates with clean masks, boxes and areas, and which of them changed: bool [N].

    size is that of the original image (height, width). A mask of which nothing is left has area 0.
    """
    packed, boxes, areas = candidates.rle.copy(), candidates.boxes.copy(), candidates.areas.copy()
    changed = np.zeros(len(candidates), dtype=np.bool_)
    for row, before in enumerate(candidates.rle):
        mask = rle.decode(before, size)
        clean = clean_regions(mask, min_area=min_area, small_masks=small_masks)
        if clean is not mask:
            changed[row] = True
            packed[row] = rle.encode(clean)
            boxes[row] = tight_boxes(torch.from_numpy(clean)[None])[0].numpy()
            areas[row] = np.count_nonzero(clean)
    return replace(candidates, rle=packed, boxes=boxes, areas=areas), changed


def clean_regions(mask: Mask, *, min_area: int, small_masks: SmallMaskRule) -> Mask:
    """A bool mask [H, W] without parts and holes of fewer than `min_area` px; the same object if it has none.

    The order follows the source of each rule: the released code fills holes first and keeps the largest part of a mask
    that has only small ones; the paper removes parts first and leaves nothing of such a mask.
    """
    if small_masks is SmallMaskRule.KEEP_LARGEST:
        filled = fill_small_holes(mask, min_area=min_area)
        return drop_small_parts(filled, min_area=min_area, keep_largest=True)
    trimmed = drop_small_parts(mask, min_area=min_area, keep_largest=False)
    return fill_small_holes(trimmed, min_area=min_area)


def fill_small_holes(mask: Mask, *, min_area: int) -> Mask:
    """The mask with every background component of fewer than `min_area` px filled; the same object if none is."""
    components, areas = _components(~mask)
    small = areas < min_area
    if not small.any():
        return mask
    return mask | small[components]


def drop_small_parts(mask: Mask, *, min_area: int, keep_largest: bool) -> Mask:
    """The mask without its parts of fewer than `min_area` px; the same object if there are none.

    Where all parts are small, the first of the largest stays if `keep_largest`.
    """
    components, areas = _components(mask)
    small = areas < min_area
    if not small.any():
        return mask
    if keep_largest and small[1:].all():
        small[1 + np.argmax(areas[1:])] = False
    return mask & ~small[components]


def _components(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Component label of each pixel, 0 outside the mask, and the area of each label in px.

    Label 0 is no component; its area is set beyond any threshold.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = np.iinfo(np.int64).max
    return labels, areas
