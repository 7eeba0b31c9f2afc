"""Average recall against pycocotools' COCOeval with one category."""

import contextlib
import io
import math
from dataclasses import astuple

import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam_core.metrics.recall import AverageRecall, Overlaps, average_recall

SIZE = (160, 200)


def boxes_as_masks(rng: np.random.Generator, count: int, largest: int) -> list[npt.NDArray[np.uint8]]:
    masks = []
    for _ in range(count):
        height, width = rng.integers(8, largest, 2)
        top, left = rng.integers(0, SIZE[0] - height), rng.integers(0, SIZE[1] - width)
        mask = np.zeros(SIZE, np.uint8, order="F")
        mask[top : top + height, left : left + width] = 1
        masks.append(mask)
    return masks


def jittered(rng: np.random.Generator, masks: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
    shifts = rng.integers(-6, 7, (len(masks), 2))
    return [np.asfortranarray(np.roll(mask, shift, (0, 1))) for mask, shift in zip(masks, shifts, strict=True)]


def coco_recall(truth: list[dict], found: list[dict], images: int) -> list[float]:
    """AR at 1000 of COCOeval: all, small, medium, large."""
    reference = COCO()
    reference.dataset = {
        "info": {},  # pycocotools before 2.0.11 asks for it
        "images": [{"id": i + 1, "height": SIZE[0], "width": SIZE[1]} for i in range(images)],
        "annotations": truth,
        "categories": [{"id": 1, "name": "object"}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(found), "segm")
        evaluation.params.maxDets = [1000]
        evaluation.evaluate()
        evaluation.accumulate()
    recall = evaluation.eval["recall"][:, 0, :, 0]
    return [values[values > -1].mean() if (values > -1).any() else math.nan for values in recall.T]


def scenario(seed: int, *, images: int = 6, proposals: int = 60) -> tuple[AverageRecall, list[float]]:
    """The same random truth (some crowds, some duplicates) and proposals through both implementations."""
    rng = np.random.default_rng(seed)
    truth, found, overlaps = [], [], []
    for image in range(images):
        true_masks = boxes_as_masks(rng, 8, 150)
        true_masks.append(true_masks[0])  # equal overlaps with two true masks
        candidates = boxes_as_masks(rng, proposals, 150) + jittered(rng, true_masks * 3)
        scores = rng.integers(0, 20, len(candidates)) / 20  # many ties
        true_rle, found_rle = [coco.encode(m) for m in true_masks], [coco.encode(m) for m in candidates]
        crowd = (rng.random(len(true_rle)) < 0.2).astype(int)
        areas = coco.area(true_rle).astype(float)
        areas[1] = 32.0**2  # on the limit of two ranges
        for rle, area, is_crowd in zip(true_rle, areas, crowd, strict=True):
            entry = {"image_id": image + 1, "category_id": 1, "segmentation": rle, "area": area}
            truth.append(entry | {"iscrowd": int(is_crowd), "id": len(truth) + 1, "bbox": list(coco.toBbox(rle))})
        for rle, score in zip(found_rle, scores, strict=True):
            found.append({"image_id": image + 1, "category_id": 1, "segmentation": rle, "score": float(score)})
        ranked = np.argsort(-scores, kind="stable")
        iou = np.asarray(coco.iou([found_rle[i] for i in ranked], true_rle, crowd.tolist()))
        overlaps.append(Overlaps(iou[:, crowd == 0], areas[crowd == 0]))
    return average_recall(overlaps), coco_recall(truth, found, images)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_cocoeval(seed: int) -> None:
    ours, expected = scenario(seed)
    np.testing.assert_allclose(astuple(ours), expected, atol=1e-9)
    assert 0.2 < ours.all < 0.95


def test_agrees_with_cocoeval_when_more_than_a_thousand_are_proposed() -> None:
    ours, expected = scenario(7, images=2, proposals=1300)
    np.testing.assert_allclose(astuple(ours), expected, atol=1e-9)


def test_each_proposal_serves_one_true_mask() -> None:
    one_proposal = Overlaps(np.array([[0.9, 0.8]]), np.array([5000.0, 5000.0]))
    assert average_recall([one_proposal]).all == pytest.approx(0.5 * 9 / 10)


def test_better_ranked_proposals_choose_first() -> None:
    iou = np.array([[0.6, 0.0], [0.99, 0.0]])
    assert average_recall([Overlaps(iou, np.array([5000.0, 5000.0]))]).all == pytest.approx(0.5)
    assert average_recall([Overlaps(iou, np.array([5000.0, 5000.0]))], limit=1).all == pytest.approx(0.5 * 3 / 10)


def test_sizes_without_truth_are_nan() -> None:
    recall = average_recall([Overlaps(np.array([[1.0]]), np.array([100.0]))])
    assert recall.all == recall.small == 1
    assert math.isnan(recall.medium)
    assert math.isnan(recall.large)
    assert math.isnan(average_recall([]).all)


def test_no_proposals_recall_nothing() -> None:
    assert average_recall([Overlaps(np.zeros((0, 2)), np.array([100.0, 200.0]))]).all == 0


def test_mismatched_areas_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) for 1 true masks"):
        Overlaps(np.zeros((3, 2)), np.zeros(1))
