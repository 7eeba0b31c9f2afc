"""The correlation of predicted with real IoU against numpy's."""

import math

import numpy as np
import pytest

from sam_core.metrics.calibration import iou_correlation


def test_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    real = rng.random((50, 3))
    predicted = real + 0.3 * rng.normal(size=(50, 3))
    expected = np.corrcoef(predicted.ravel(), real.ravel())[0, 1]
    assert iou_correlation(predicted, real) == pytest.approx(expected, abs=1e-12)


def test_perfect_and_inverse() -> None:
    real = np.linspace(0, 1, 7)
    assert iou_correlation(2 * real + 1, real) == pytest.approx(1)
    assert iou_correlation(-real, real) == pytest.approx(-1)


def test_undefined_is_nan() -> None:
    assert math.isnan(iou_correlation(np.ones(4), np.arange(4.0)))
    assert math.isnan(iou_correlation(np.full(3, 0.1), np.arange(3.0)))  # whose mean is not 0.1
    assert math.isnan(iou_correlation(np.arange(10.0), np.full(10, 0.1)))
    assert math.isnan(iou_correlation(np.ones(1), np.ones(1)))
    assert math.isnan(iou_correlation(np.ones(0), np.ones(0)))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) predicted against \(4,\)"):
        iou_correlation(np.ones(3), np.ones(4))
