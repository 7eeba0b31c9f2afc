"""Agreement of two generations against counts by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sam_core.masks import rle
from sam_core.masks.batch import Generation, MaskRecords, Reason, Rejections, StepSeconds
from tests.benchmarks.agreement import compare, overlaps, total

SIZE = (40, 50)


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


def generation(
    masks: list[tuple[np.ndarray, float, float]], rejected: Sequence[tuple[Reason, float, float]] = ()
) -> Generation:
    """Masks as (mask, x of the point, predicted IoU), rejections as (reason, x of the point, predicted IoU)."""
    whole = [0, 0, SIZE[1], SIZE[0]]
    return Generation(
        MaskRecords(
            size=SIZE,
            rle=tuple(rle.encode(mask) for mask, _, _ in masks),
            boxes=np.zeros((len(masks), 4), np.int64),
            areas=np.array([mask.sum() for mask, _, _ in masks], np.int64),
            predicted_iou=np.array([iou for _, _, iou in masks], np.float32),
            stability_score=np.ones(len(masks), np.float32),
            points=np.array([[x, 1] for _, x, _ in masks], np.float32).reshape(-1, 2),
            crop_boxes=np.tile(np.int32(whole), (len(masks), 1)),
        ),
        Rejections(
            reason=np.array([reason.code for reason, _, _ in rejected], np.int8),
            points=np.array([[x, 1] for _, x, _ in rejected], np.float32).reshape(-1, 2),
            output=np.zeros(len(rejected), np.int8),
            predicted_iou=np.array([iou for _, _, iou in rejected], np.float32),
            stability_score=np.ones(len(rejected), np.float32),
            crop_boxes=np.tile(np.int32(whole), (len(rejected), 1)),
        ),
        StepSeconds(),
    )


SMALL, LARGE = square(1, 1, 10), square(5, 5, 30)


def test_the_same_masks_in_another_order_agree() -> None:
    one = generation([(SMALL, 1, 0.9), (LARGE, 2, 0.95)])
    other = generation([(LARGE, 2, 0.95), (SMALL, 1, 0.9)])
    found = compare(one, other)
    assert (found.matched, found.reference, found.other, found.same_count) == (2, 2, 2, 1)
    assert found.share == 1.0
    assert not found.lost
    assert not found.gained


def test_lost_and_gained_masks_are_counted_under_the_rule_that_parted_them() -> None:
    """At x = 1 two outputs of one prompt: the one of predicted IoU .90 is kept here and rejected there."""
    one = generation([(SMALL, 1, 0.9), (LARGE, 2, 0.95)], [(Reason.STABILITY, 3, 0.91), (Reason.IOU, 1, 0.5)])
    other = generation(
        [(LARGE, 2, 0.95), (square(20, 3, 8), 3, 0.91)], [(Reason.NMS_IN_CROP, 1, 0.9001), (Reason.IOU, 1, 0.5)]
    )
    found = compare(one, other)
    assert (found.matched, found.changed, found.same_count) == (1, 0, 1)
    assert found.lost == {"nms_in_crop": 1}
    assert found.gained == {"stability": 1}
    assert found.share == 0.5


def test_masks_drawn_differently_are_changed_not_lost() -> None:
    moved = generation([(square(1, 1, 11), 1, 0.9)])
    found = compare(generation([(SMALL, 1, 0.9)]), moved)
    assert (found.matched, found.changed, found.lost, found.gained) == (0, 1, {}, {})
    assert compare(generation([(SMALL, 1, 0.9)]), moved, iou=0.8).matched == 1


def test_each_mask_has_one_partner() -> None:
    twice = generation([(SMALL, 1, 0.9), (SMALL, 2, 0.9)])
    once = generation([(SMALL, 1, 0.9)], [(Reason.NMS_IN_CROP, 2, 0.9)])
    found = compare(twice, once)
    assert (found.matched, found.larger, found.same_count) == (1, 2, 0)
    assert sum(found.lost.values()) + found.changed == 1


def test_nothing_agrees_with_nothing() -> None:
    found = compare(generation([]), generation([]))
    assert (found.share, found.images, found.same_count) == (1.0, 1, 1)


def test_counts_add_up_over_images() -> None:
    same = compare(generation([(SMALL, 1, 0.9)]), generation([(SMALL, 1, 0.9)]))
    lost = compare(generation([(SMALL, 1, 0.9)]), generation([], [(Reason.IOU, 1, 0.88)]))
    found = total([same, lost, lost])
    assert (found.images, found.same_count, found.matched, found.larger) == (3, 1, 1, 3)
    assert found.lost == {"iou": 2}
    assert total([]).share == 1.0


def test_overlaps_are_those_of_the_pixels() -> None:
    masks = [square(1, 1, 10), square(3, 4, 12), square(30, 20, 5)]
    records = generation([(mask, 1, 0.9) for mask in masks]).masks
    expected = [[(a & b).sum() / (a | b).sum() for b in masks] for a in masks]
    np.testing.assert_allclose(overlaps(records, records), expected, atol=1e-12)


def test_other_prompts_are_refused() -> None:
    elsewhere = generation([(LARGE, 9, 0.9)])
    with pytest.raises(ValueError, match="do not come from the same crops and points"):
        compare(generation([(SMALL, 1, 0.9)]), elsewhere)
    moved = replace(elsewhere.masks, crop_boxes=elsewhere.masks.crop_boxes + 1, points=np.float32([[1, 1]]))
    with pytest.raises(ValueError, match="do not come from the same crops and points"):
        compare(generation([(SMALL, 1, 0.9)]), replace(elsewhere, masks=moved))
