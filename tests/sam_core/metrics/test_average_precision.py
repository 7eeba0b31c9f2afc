"""Average precision against pycocotools' COCOeval: crowds, sizes, ties, many categories."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sam_core.metrics.average_precision import (
    Detections,
    Matches,
    average_precision,
    match_detections,
    precision_by_threshold,
)
from sam_core.metrics.recall import SIZES
from tests.sam_core.metrics.test_recall import SIZE, boxes_as_masks, jittered

CATEGORIES = (3, 5, 8)


def coco_ap(truth: list[dict], found: list[dict], images: int) -> list[float]:
    """AP, AP50, AP75, small, medium, large of COCOeval."""
    reference = COCO()
    reference.dataset = {
        "info": {},  # pycocotools before 2.0.11 asks for it
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in range(images)],
        "annotations": truth,
        "categories": [{"id": category, "name": str(category)} for category in CATEGORIES],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [value if value > -1 else np.nan for value in evaluation.stats[:6].tolist()]


def joined(images: list[Matches]) -> Matches:
    return Matches(
        np.concatenate([each.scores for each in images]),
        np.concatenate([each.hit for each in images]),
        np.concatenate([each.ignored for each in images]),
        sum(each.positives for each in images),
    )


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_cocoeval(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = [], []
    matches: dict[int, dict[str, list[Matches]]] = {c: {size: [] for size in SIZES} for c in CATEGORIES[:2]}
    for image in range(5):
        for category in CATEGORIES[:2]:
            true_masks = boxes_as_masks(rng, 6, 150)
            true_masks.append(true_masks[0])
            guesses = boxes_as_masks(rng, 20, 150) + jittered(rng, true_masks * 2)
            guesses += boxes_as_masks(rng, 90, 60) if image == 0 else []  # more than a hundred
            scores = rng.integers(0, 15, len(guesses)) / 15  # many ties
            crowd = rng.random(len(true_masks)) < 0.25
            true_rle, found_rle = [coco.encode(m) for m in true_masks], [coco.encode(m) for m in guesses]
            areas = coco.area(true_rle).astype(float)
            areas[1] = 96.0**2  # on the limit of two ranges
            key = {"image_id": image, "category_id": category}
            for rle, area, is_crowd in zip(true_rle, areas, crowd, strict=True):
                entry = key | {"segmentation": rle, "area": area, "bbox": list(coco.toBbox(rle))}
                truth.append(entry | {"iscrowd": int(is_crowd), "id": len(truth) + 1})
            found += [key | {"segmentation": r, "score": float(s)} for r, s in zip(found_rle, scores, strict=True)]
            iou = np.asarray(coco.iou(found_rle, true_rle, crowd.astype(int).tolist()))
            detections = Detections(scores, coco.area(found_rle).astype(float), iou, areas, crowd)
            for size in SIZES:
                matches[category][size].append(match_detections(detections, size))
    ours = average_precision([{size: joined(each) for size, each in sizes.items()} for sizes in matches.values()])
    expected = coco_ap(truth, found, 5)
    values = [ours.all, ours.ap50, ours.ap75, ours.small, ours.medium, ours.large]
    np.testing.assert_allclose(values, expected, atol=1e-9)
    assert 0.05 < ours.all < 0.9


def test_truth_without_detections_is_zero_and_detections_without_truth_do_not_count() -> None:
    none = np.zeros(0)
    missed = match_detections(
        Detections(none, none, np.zeros((0, 2)), np.array([50.0, 60.0]), np.zeros(2, bool)), "all"
    )
    assert precision_by_threshold(missed).tolist() == [0.0] * 10
    nothing = Detections(np.array([0.5]), np.array([40.0]), np.zeros((1, 0)), none, np.zeros(0, bool))
    assert np.isnan(precision_by_threshold(match_detections(nothing, "all"))).all()
    assert np.isnan(average_precision([]).all)


def test_mismatched_overlaps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) for 1 detections and 2 masks"):
        Detections(np.zeros(1), np.zeros(1), np.zeros((3, 2)), np.zeros(2), np.zeros(2, bool))
