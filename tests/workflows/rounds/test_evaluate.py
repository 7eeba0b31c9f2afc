"""What simulated people's work comes to, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam_core.annotators import Costs, Drawn, Habits
from sam_core.masks.candidates import object_column
from sam_core.metrics.recall import Overlaps
from tests.workflows.rounds.conftest import save_pictures
from workflows.models import find_model
from workflows.rounds import evaluate as module
from workflows.rounds.config import EvaluationSettings
from workflows.rounds.evaluate import Pace, _figures, measure
from workflows.rounds.pictures import Truth

COSTS = Costs(find=4, click=2, brush=10, stroke=0.1)


def drawn(clicks: list[int], brushed: list[int], first_iou: list[float]) -> Drawn:
    count = len(clicks)
    return Drawn(
        rle=object_column([b""] * count),
        clicks=np.array(clicks),
        brushed=np.array(brushed),
        points=np.zeros((count, 2), np.float32),
        predicted_iou=np.zeros(count, np.float32),
        first_iou=np.array(first_iou),
    )


def test_figures_are_means_over_masks_and_over_images() -> None:
    """Seconds: 4 + 2 * 1, and 4 + 2 * 9 + 10 + 0.1 * 20."""
    overlaps = [Overlaps(np.array([[1.0, 0.0]]), np.array([100.0, 100.0]))]
    found = _figures(drawn([1, 9], [0, 400], [0.95, 0.25]), [6.0, 2.0], overlaps, Pace(Habits(), COSTS, 180))
    assert (found.images, found.masks) == (2, 2)
    assert (found.miou, found.clicks_to_090, found.reached) == (pytest.approx(0.6), 5.0, 0.5)
    assert (found.seconds_per_mask, found.masks_per_image) == (pytest.approx((6 + 34) / 2), 4.0)
    assert found.average_recall == pytest.approx(0.5)


@pytest.mark.parametrize(("seconds", "fitting"), [(180.0, 3.0), (12.0, 2.0)])
def test_no_more_masks_fit_an_image_than_it_has(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, fitting: float
) -> None:
    """Pictures of three masks, of which two are drawn, in 6 s each."""
    truth = Truth(str(save_pictures(tmp_path / "held_out", [1, 2])))
    assert [len(image.masks) for image in truth.first(2)] == [3, 3]
    monkeypatch.setattr(module, "draw", lambda _, __, some, ___: drawn([1] * len(some), [0] * len(some), [0.5] * 2))
    settings = EvaluationSettings(images=2, masks_per_image=2)
    found = measure(find_model(str(tiny_checkpoint)), truth, settings, Pace(Habits(), COSTS, seconds), [], seed=0)
    assert (found.images, found.masks, found.masks_per_image) == (2, 4, fitting)
    assert found.average_recall is None
