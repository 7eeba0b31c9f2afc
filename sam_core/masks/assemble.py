"""The last steps of an image, when the masks of all its crops are known: NMS across crops, small parts and holes."""

from collections.abc import Sequence

import numpy as np

from sam_core.masks.batch import Generation, Reason
from sam_core.masks.candidates import Candidates, Ledger, concatenate, records
from sam_core.masks.nms import nms
from sam_core.masks.regions import clean_candidates
from sam_core.recipes import Recipe


def assemble(parts: Sequence[Candidates], size: tuple[int, int], recipe: Recipe, ledger: Ledger) -> Generation:
    """The generation of an image of this size (height, width) from the encoded candidates of each of its crops."""
    kept = concatenate(parts)
    if len(parts) > 1:
        kept = _suppress_across_crops(kept, recipe, ledger)
    if recipe.min_region_area > 0:
        kept = _clean_regions(kept, size, recipe, ledger)
    return Generation(records(kept, size), ledger.rejections, ledger.seconds)


def _suppress_across_crops(candidates: Candidates, recipe: Recipe, ledger: Ledger) -> Candidates:
    """Of masks with nearly the same box, those from the smallest crop."""
    with ledger.timed("nms"):
        sides = candidates.crop_boxes[:, 2:] - candidates.crop_boxes[:, :2]
        zoom = 1 / sides.prod(axis=1).astype(np.float32)
        keep = nms(candidates.boxes, zoom, threshold=recipe.crop_nms_iou)
    return ledger.survivors(candidates, keep, Reason.NMS_ACROSS_CROPS)


def _clean_regions(candidates: Candidates, size: tuple[int, int], recipe: Recipe, ledger: Ledger) -> Candidates:
    """Masks without small parts and holes; of those that now look alike, the ones that needed no cleaning."""
    with ledger.timed("regions"):
        cleaned, changed = clean_candidates(
            candidates, size, min_area=recipe.min_region_area, small_masks=recipe.small_masks
        )
    with ledger.timed("nms"):
        left = np.flatnonzero(cleaned.areas)
        threshold = max(recipe.nms_iou, recipe.crop_nms_iou)
        keep = left[nms(cleaned.boxes[left], ~changed[left], threshold=threshold)]
    return ledger.survivors(cleaned, keep, Reason.SMALL_REGION)
