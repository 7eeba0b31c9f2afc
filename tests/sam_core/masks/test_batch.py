"""Result types: equal lengths, stable codes, balance."""

import numpy as np
import pytest
import torch

from sam_core.geometry import frame_of, upscale_logits
from sam_core.masks.batch import Generation, MaskBatch, MaskRecords, Reason, Rejections, StepSeconds


def records(n: int, *, areas: int | None = None) -> MaskRecords:
    return MaskRecords(
        size=(4, 5),
        rle=(b"02",) * n,
        boxes=np.zeros((n, 4), np.int64),
        areas=np.zeros(n if areas is None else areas, np.int64),
        predicted_iou=np.zeros(n, np.float32),
        stability_score=np.zeros(n, np.float32),
        points=np.zeros((n, 2), np.float32),
        crop_boxes=np.zeros((n, 4), np.int32),
    )


def rejections(*reasons: Reason) -> Rejections:
    n = len(reasons)
    return Rejections(
        reason=np.array([reason.code for reason in reasons], np.int8),
        points=np.zeros((n, 2), np.float32),
        output=np.zeros(n, np.int8),
        predicted_iou=np.zeros(n, np.float32),
        stability_score=np.zeros(n, np.float32),
        crop_boxes=np.zeros((n, 4), np.int32),
    )


def test_reason_codes_are_fixed() -> None:
    """Stored tables hold these numbers and names."""
    assert {reason.value: reason.code for reason in Reason} == {
        "iou": 0,
        "stability": 1,
        "box_at_crop_edge": 2,
        "area": 3,
        "nms_in_crop": 4,
        "nms_across_crops": 5,
        "small_region": 6,
    }


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="MaskRecords: columns differ in length"):
        records(3, areas=2)


def test_candidates_are_masks_and_rejections() -> None:
    generation = Generation(records(2), rejections(Reason.IOU, Reason.AREA, Reason.IOU), StepSeconds(encode=1, rle=2))
    assert generation.candidates == 5
    assert generation.rejections.counts()[Reason.IOU] == 2
    assert sum(generation.rejections.counts().values()) == 3


def test_masks_are_thresholded_at_crop_size() -> None:
    frame = frame_of((30, 50), image_size=64, crop_box=(5, 3, 45, 27))
    logits = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = MaskBatch(logits, torch.zeros(2, 3), frame)
    assert batch.masks().shape == (2, 3, 24, 40)
    assert torch.equal(batch.masks(0.5), upscale_logits(logits, frame) > 0.5)


def test_scores_that_do_not_fit_the_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        MaskBatch(torch.zeros(2, 3, 16, 16), torch.zeros(2, 1), frame_of((30, 50), image_size=64))
