"""Small spurious parts and holes of masks: found as connected components, removed and filled.

Pixels that touch by a side or a corner belong to one part (8-connectivity, as in the released `remove_small_regions`);
the same holds for holes. Only the surroundings of a mask are looked at, with the result of looking at the whole image.
"""

from collections.abc import Sequence
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
Window = tuple[slice, slice]


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
    window = _window(mask, min_area=min_area)
    part = mask[window]
    beyond = _background_that_goes_on(window, mask.shape)
    if small_masks is SmallMaskRule.KEEP_LARGEST:
        filled = fill_small_holes(part, min_area=min_area, endless=beyond)
        clean = drop_small_parts(filled, min_area=min_area, keep_largest=True)
    else:
        trimmed = drop_small_parts(part, min_area=min_area, keep_largest=False)
        # Where nothing is left, the background of a tiny image must not count as a hole.
        clean = fill_small_holes(trimmed, min_area=min_area, endless=beyond) if trimmed.any() else trimmed
    if clean is part:
        return mask
    whole = mask.copy()
    whole[window] = clean
    return whole


def _window(mask: Mask, *, min_area: int) -> Window:
    """Rows and columns around a mask [H, W] that decide what is cleaned: its box and one px of background around.

    A side where the rest of the image has fewer than `min_area` px reaches to the border, for that rest may be a hole.
    It begins at even rows and columns: opencv numbers parts by blocks of 2 x 2 px, and of equal parts the first stays.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, height), slice(0, width)
    top, bottom, left, right = int(rows[0]) - 1, int(rows[-1]) + 2, int(columns[0]) - 1, int(columns[-1]) + 2
    top = top if top * width >= min_area else 0
    bottom = bottom if (height - bottom) * width >= min_area else height
    left = left if left * (bottom - top) >= min_area else 0
    right = right if (width - right) * (bottom - top) >= min_area else width
    return slice(top - top % 2, bottom), slice(left - left % 2, right)


def _background_that_goes_on(window: Window, size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pixels of a window, one for each piece of its background that goes on outside and so is no small hole."""
    (rows, columns), (height, width) = window, size
    corners = [
        ((0, 0), rows.start > 0 or columns.start > 0),
        ((0, -1), columns.stop < width),
        ((-1, 0), rows.stop < height),
    ]
    return [corner for corner, goes_on in corners if goes_on]


def fill_small_holes(mask: Mask, *, min_area: int, endless: Sequence[tuple[int, int]] = ()) -> Mask:
    """The mask with every background component of fewer than `min_area` px filled; the same object if none is.

    Background at the pixels `endless` is part of a larger component and stays.
    """
    components, areas = _components(~mask)
    small = areas < min_area
    for row, column in endless:
        small[components[row, column]] = False
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
