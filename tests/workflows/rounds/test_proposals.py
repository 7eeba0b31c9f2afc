"""Prefilled masks: matched to the truth, cut at a threshold that is precise enough, written as a run's masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from sam_core.detector import Found, ObjectDetector
from sam_core.geometry import frame_of
from sam_core.masks.boxes import tight_boxes
from sam_core.masks.candidates import Candidates, Measures, decoded, object_column
from sam_core.masks.packed import PackedMasks
from sam_core.masks.rle import decode as decode_rle
from sam_core.masks.rle import run_lengths
from sam_core.model.sam import Sam
from sam_core.predict import Prompts, decode, encode, look_at
from sam_core.presets import vit_test
from sam_core.windows import window_around
from workflows.rounds import proposals as module
from workflows.rounds.proposals import (
    Judged,
    Proposals,
    _outline,
    as_generation,
    boxes_to_original,
    choose_threshold,
    judge,
    propose,
    together,
)


def candidates(
    masks: NDArray[np.bool_], predicted_iou: list[float], stability: list[float], *, point: tuple[float, float] = (6, 7)
) -> Candidates:
    """Masks [K, H, W] of one whole image."""
    crop = (0, 0, masks.shape[2], masks.shape[1])
    drawn = decoded(np.tile(np.array(point), (len(masks), 1)), np.array(predicted_iou, np.float32)[:, None], crop)
    measures = Measures(
        np.array(stability, np.float32),
        masks.sum((1, 2)),
        tight_boxes(torch.from_numpy(masks)).numpy(),
        object_column([run_lengths(mask) for mask in masks]),
    )
    return drawn.measured(measures)


def proposals(masks: np.ndarray, confidence: list[float]) -> Proposals:
    scores = np.linspace(0.9, 0.5, len(masks)).tolist()
    return Proposals(candidates(masks, scores, scores).encoded(), np.array(confidence))


def pixels(found: Proposals, size: tuple[int, int]) -> list[NDArray[np.bool_]]:
    return [decode_rle(counts, size) for counts in found.masks.rle]


def bars(*spans: tuple[int, int]) -> np.ndarray:
    """Masks of [20, 30] px that are full columns."""
    masks = np.zeros((len(spans), 20, 30), np.bool_)
    for index, (start, stop) in enumerate(spans):
        masks[index, :, start:stop] = True
    return masks


def test_each_true_mask_is_matched_once_by_the_most_confident() -> None:
    found = proposals(bars((0, 10), (0, 9), (20, 25), (12, 14)), [0.9, 0.8, 0.7, 0.6])
    judged = judge(found, PackedMasks.of(bars((0, 10), (20, 30))))
    np.testing.assert_allclose(judged.real_iou, [1.0, 0.0, 0.5, 0.0])
    assert judged.precision_recall(0.65, 0.4) == (pytest.approx(2 / 3), 1.0)
    assert judged.precision_recall(0.85, 0.75) == (1.0, 0.5)
    assert judged.precision_recall(None, 0.75) == (0.0, 0.0)
    assert judge(found, PackedMasks.of(bars())).real_iou.tolist() == [0.0] * 4
    both = together([judged, judge(found, PackedMasks.of(bars((0, 10))))])
    assert (len(both.confidence), both.objects) == (8, 3)
    assert together([]).objects == 0


def test_the_threshold_is_the_lowest_that_is_precise_enough() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    judged = Judged(confidence, np.array([0.9, 0.1, 0.9, 0.9, 0.9, 0.1]), 10)
    assert choose_threshold(judged, precision=0.8, iou=0.75) == 0.5  # 4 of 5
    assert choose_threshold(judged, precision=0.8, iou=0.9) == 0.5
    assert choose_threshold(judged, precision=0.95, iou=0.75) == 0.9
    assert choose_threshold(judged, precision=0.95, iou=0.95) is None
    assert choose_threshold(Judged(confidence[:0], confidence[:0], 3), precision=0.5, iou=0.5) is None


@pytest.mark.parametrize("real", [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
def test_equal_confidences_are_kept_or_dropped_together(real: list[float]) -> None:
    judged = Judged(np.ones(3), np.array(real), 3)
    assert choose_threshold(judged, precision=0.9, iou=0.75) is None
    assert choose_threshold(judged, precision=0.3, iou=0.75) == 1.0
    assert judged.precision_recall(1.0, 0.75)[0] == pytest.approx(1 / 3)


def test_they_become_a_generators_masks() -> None:
    masks = bars((0, 10), (20, 25), (12, 14))
    made = as_generation(proposals(masks, [0.9, 0.7, 0.2]), 0.7, (20, 30))  # thresholds are confidences of masks
    assert made.masks.boxes.tolist() == [[0, 0, 10, 20], [20, 0, 5, 20]]
    assert made.masks.areas.tolist() == [200, 100]
    shown = [coco_mask.decode({"size": [20, 30], "counts": counts}).astype(bool) for counts in made.masks.rle]
    assert (np.array(shown) == masks[:2]).all()
    assert made.candidates == 3
    assert made.masks.points.tolist() == [[6, 7]] * 2
    assert made.masks.crop_boxes.tolist() == [[0, 0, 30, 20]] * 2
    np.testing.assert_allclose(made.masks.predicted_iou, [0.9, 0.7])
    np.testing.assert_allclose(made.rejections.predicted_iou, [0.5])
    assert {reason.value for reason, count in made.rejections.counts().items() if count} == {"iou"}
    nothing = as_generation(proposals(masks, [0.9, 0.7, 0.2]), None, (20, 30))
    assert (len(nothing.masks), len(nothing.rejections)) == (0, 3)


def random_sam() -> Sam:
    torch.manual_seed(0)
    return Sam(vit_test()).eval()


def detected(sam: Sam, photo: NDArray[np.uint8], boxes: list[list[float]]) -> Found:
    """What a detector says that finds three boxes, xyxy in px of the photograph."""
    scale = sam.config.image_size / max(photo.shape[:2])
    return Found(np.array(boxes, np.float32) * scale, np.array([0.9, 0.8, 0.7], np.float32))


def proposed(
    monkeypatch: pytest.MonkeyPatch, sam: Sam, photo: NDArray[np.uint8], boxes: list[list[float]]
) -> Proposals:
    """What a model proposes where a detector finds three boxes, xyxy in px of the photograph."""
    size, found = photo.shape[:2], detected(sam, photo, boxes)
    monkeypatch.setattr(module, "detect", lambda *_, **__: found)
    return propose(sam, ObjectDetector(32, width=8), look_at(sam, photo), size, most=9, least=0.1)


def test_every_box_is_drawn_in_its_own_window(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    """Small boxes as in an image that is their window alone; a large one in the whole image."""
    sam, size = random_sam(), photo.shape[:2]
    boxes = [[20, 30, 380, 280], [200.5, 100.2, 212, 111], [440.4, 288, 451, 300]]
    found = proposed(monkeypatch, sam, photo, boxes)
    assert len(found.masks) >= 2
    drawn = boxes_to_original(detected(sam, photo, boxes), frame_of(size, image_size=sam.config.image_size))
    middles = (drawn[:, :2] + drawn[:, 2:]) / 2
    for mask, middle, score in zip(pixels(found, size), found.masks.points, found.masks.predicted_iou, strict=True):
        (box,) = drawn[(middles == middle).all(1)]
        low, high = np.floor(box[:2] + 1e-3), np.ceil(box[2:] - 1e-3)
        x0, y0, x1, y1 = window = window_around(size, tuple(np.concatenate([low, high]).astype(int).tolist()))
        assert (window == (0, 0, *size[::-1])) == (box[2] - box[0] > 100)
        alone = encode(sam, [np.ascontiguousarray(photo[y0:y1, x0:x1])])
        prompts = Prompts(boxes=torch.from_numpy(box[None] - np.array([x0, y0] * 2, np.float32)))
        best = decode(sam, alone, prompts).best()
        assert (mask[y0:y1, x0:x1] != best.masks()[0, 0].numpy()).mean() < 1e-3
        assert mask.sum() == mask[y0:y1, x0:x1].sum()
        assert score == pytest.approx(float(best.iou[0, 0]), abs=1e-3)


def test_boxes_reach_the_borders_of_a_narrow_picture_too() -> None:
    """Of 3 px, which an input of 64 px makes 2."""
    found = Found(np.array([[1, 32, 2, 64]], np.float32), np.ones(1, np.float32))
    assert boxes_to_original(found, frame_of((100, 3), image_size=64)).tolist() == [[1.5, 50, 3, 100]]


def test_what_a_box_touches_is_at_least_a_pixel_of_the_picture() -> None:
    for box, expected in (
        ([48.5, 2, 60, 9.2], (48, 2, 50, 10)),
        ([-3, -4, 0.5, 0.5], (0, 0, 1, 1)),
        ([50, 30, 51, 31], (49, 29, 50, 30)),
        ([7, 5, 7, 5], (7, 5, 8, 6)),
    ):
        assert _outline(np.array(box, np.float32), (30, 50)) == expected


def test_the_most_confident_come_first_and_stand_for_those_like_them(
    monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]
) -> None:
    """Confidence is IoU times stability: 0.4, 0.72 and 0.45; the first two are one object."""
    sam, size = Sam(vit_test()).eval(), photo.shape[:2]
    masks = np.zeros((4, *size), np.bool_)
    masks[:2, 10:50, 10:50], masks[1, 10, 10], masks[2, 60:90, 60:90] = True, False, True
    drawn = candidates(masks, [0.8, 0.9, 0.5, 1.0], [0.5, 0.8, 0.9, 1.0])  # the last one has no pixels
    monkeypatch.setattr(module, "_draw_all", lambda *_: drawn)
    boxes = np.array([[1, 1, 5, 5], [1, 1, 5, 5], [6, 6, 9, 9]], np.float32)
    monkeypatch.setattr(module, "detect", lambda *_, **__: Found(boxes, np.ones(3, np.float32)))
    found = propose(sam, ObjectDetector(32, width=8), look_at(sam, photo), size, most=9, least=0.1)
    np.testing.assert_allclose(found.confidence, [0.72, 0.45])
    np.testing.assert_allclose(found.masks.predicted_iou, [0.9, 0.5])
    np.testing.assert_allclose(found.masks.stability_score, [0.8, 0.9])
    assert np.array_equal(pixels(found, size), masks[1:3])


def test_a_box_that_comes_twice_is_one_mask(monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]) -> None:
    boxes = [[20, 30, 380, 280], [20, 30, 380, 280], [200.5, 100.2, 212, 111]]
    found = proposed(monkeypatch, random_sam(), photo, boxes)
    assert len(found.masks) == 2
    assert sorted(found.masks.points[:, 0].tolist()) == pytest.approx([200, 206.25], abs=0.1)


def test_a_detector_that_finds_nothing_proposes_nothing(
    monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]
) -> None:
    sam, nothing = Sam(vit_test()).eval(), Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    monkeypatch.setattr(module, "detect", lambda *_, **__: nothing)
    found = propose(sam, ObjectDetector(32, width=8), look_at(sam, photo), photo.shape[:2], most=9, least=0.1)
    assert (len(found.masks), len(found.confidence)) == (0, 0)
    assert len(as_generation(found, 0.5, photo.shape[:2]).masks) == 0


def test_confidence_is_of_the_mask_and_unlikely_boxes_are_not_drawn(
    monkeypatch: pytest.MonkeyPatch, photo: NDArray[np.uint8]
) -> None:
    torch.manual_seed(0)
    sam, size = Sam(vit_test()).eval(), photo.shape[:2]
    corners = np.random.default_rng(0).uniform(0, 250, (30, 2))
    boxes = np.concatenate([corners, corners + 20], 1).astype(np.float32) * sam.config.image_size / max(size)
    scores = np.linspace(0.9, 0.1, 30, dtype=np.float32)

    def detect(*_: object, least: float, **__: object) -> Found:
        return Found(boxes[scores >= least], scores[scores >= least])

    monkeypatch.setattr(module, "detect", detect)
    found = propose(sam, ObjectDetector(32, width=8), look_at(sam, photo), size, most=30, least=0.5)
    assert 1 < len(found.masks) <= (scores >= 0.5).sum()
    scores = found.masks.predicted_iou.clip(0, 1) * found.masks.stability_score
    np.testing.assert_allclose(found.confidence, scores, rtol=1e-6)
    assert (np.diff(found.confidence) <= 0).all()
