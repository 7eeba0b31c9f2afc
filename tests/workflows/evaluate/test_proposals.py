"""The ranking of proposals."""

import numpy as np

from sam_core.masks.batch import MaskRecords
from workflows.evaluate.proposals import rank_scores


def test_proposals_rank_by_the_mean_of_both_scores() -> None:
    nothing = np.zeros((3, 4), np.int64)
    found = MaskRecords(
        size=(1, 1),
        rle=(b"", b"", b""),
        boxes=nothing,
        areas=nothing[:, 0],
        predicted_iou=np.array([0.9, 0.5, 0.4], np.float32),
        stability_score=np.array([0.1, 0.9, np.nan], np.float32),
        points=np.zeros((3, 2), np.float32),
        crop_boxes=nothing.astype(np.int32),
    )
    np.testing.assert_allclose(rank_scores(found), [0.5, 0.7, 0.2], atol=1e-6)
