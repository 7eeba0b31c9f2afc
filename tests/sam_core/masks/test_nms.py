"""NMS against a quadratic loop written from its definition."""

import numpy as np
import pytest

from sam_core.masks.nms import nms


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """In float32, as torchvision has it; its comparison with the threshold is exact."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    intersection = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection
    return float(np.float32(intersection) / np.float32(union)) if union else 0.0


def quadratic_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for candidate in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[candidate], boxes[better]) <= threshold for better in kept):
            kept.append(candidate)
    return kept


def random_boxes(n: int, *, side: int, seed: int) -> np.ndarray:
    corners = np.random.default_rng(seed).integers(0, side, size=(n, 2, 2))
    return np.sort(corners, axis=1).reshape(n, 4)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("side", [4, 30])
def test_agrees_with_the_quadratic_loop(threshold: float, side: int) -> None:
    boxes = random_boxes(300, side=side, seed=1)
    scores = np.random.default_rng(2).choice(np.float32([0.5, 0.8, 0.9, 0.95]), size=300)
    assert nms(boxes, scores, threshold=threshold).tolist() == quadratic_nms(boxes, scores, threshold)


def test_overlap_at_the_threshold_is_allowed() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 5, 10], [0, 0, 6, 10]])
    assert nms(boxes, np.array([3, 2, 1]), threshold=0.5).tolist() == [0, 1]


def test_ties_keep_input_order() -> None:
    boxes = np.array([[20, 0, 30, 10], [0, 0, 10, 10], [40, 0, 50, 10], [0, 0, 10, 11]])
    assert nms(boxes, np.ones(4), threshold=0.7).tolist() == [0, 1, 2]


def test_boxes_without_area_are_kept() -> None:
    boxes = np.array([[3, 3, 3, 3], [3, 3, 3, 3], [0, 5, 9, 5]])
    assert nms(boxes, np.array([1, 2, 3]), threshold=0.7).tolist() == [2, 1, 0]


def test_no_boxes() -> None:
    assert nms(np.empty((0, 4), np.int64), np.empty(0), threshold=0.7).tolist() == []
