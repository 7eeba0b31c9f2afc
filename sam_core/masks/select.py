"""The rules that judge a mask by itself: predicted IoU, stability, crop border, area."""

import numpy as np
from numpy.typing import NDArray

from sam_core.geometry import Frame
from sam_core.masks.batch import Reason
from sam_core.masks.boxes import near_crop_edge
from sam_core.masks.candidates import KEPT, Candidates
from sam_core.recipes import Recipe

Verdicts = NDArray[np.int8]
"""int8 [N]: KEPT or the `Reason.code` of the first rule that rejects."""


def judge_predicted_iou(candidates: Candidates, recipe: Recipe) -> Verdicts:
    """Reject what the model itself does not trust; needs no mask, so it comes before any is looked at."""
    threshold = recipe.min_predicted_iou
    doubtful = ~(candidates.predicted_iou > threshold) if threshold > 0 else np.zeros(len(candidates), np.bool_)
    return np.where(doubtful, Reason.IOU.code, KEPT).astype(np.int8)


def judge_measures(candidates: Candidates, frame: Frame, recipe: Recipe) -> Verdicts:
    """Reject measured candidates of one crop: unstable, cut off by the crop, empty or almost the whole image."""
    height, width = frame.original_size
    unstable = ~(candidates.stability_score >= recipe.min_stability_score)
    cut_off = near_crop_edge(candidates.boxes, frame, tolerance=recipe.crop_edge_tolerance)
    wrong_area = candidates.areas == 0
    if recipe.full_image_fraction > 0:
        wrong_area |= candidates.areas >= recipe.full_image_fraction * height * width
    verdicts: Verdicts = np.select(
        [unstable, cut_off, wrong_area],
        [np.int8(reason.code) for reason in (Reason.STABILITY, Reason.BOX_AT_CROP_EDGE, Reason.AREA)],
        default=np.int8(KEPT),
    )
    return verdicts
