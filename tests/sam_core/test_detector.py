"""The object detector: its targets, its loss, and that it learns to find objects on a frozen model's features."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from sam_core.detector import Example, FitConfig, Maps, centre_targets, detect, detection_loss, detector_for, fit
from sam_core.geometry import boxes_to_input
from sam_core.model.checkpoint import load_model
from sam_core.model.sam import Sam
from sam_core.predict import encode
from sam_core.presets import vit_n, vit_test
from tests.workflows.train.conftest import picture


def test_targets_lie_at_the_centres() -> None:
    found = centre_targets(torch.tensor([[8.0, 16.0, 24.0, 40.0], [40.0, 0.0, 60.0, 8.0]]), 16)
    cells = list(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
    assert sorted(cells) == [(1, 12), (7, 4)]
    assert all(found.heat[row, column] == 1 for row, column in cells)
    assert found.heat[15, 15] < 0.01
    assert found.heat[8, 4] > found.heat[7, 6]  # the box is higher than wide
    assert found.sides[:, cells.index((7, 4))].tolist() == [10.0, 14.0, 6.0, 10.0]  # from (18, 30)
    assert centre_targets(torch.zeros(0, 4), 16).sides.shape == (4, 0)


def test_of_two_objects_in_one_cell_the_smaller_counts() -> None:
    found = centre_targets(torch.tensor([[30.0, 30.0, 34.0, 34.0], [0.0, 0.0, 64.0, 64.0]]), 16)
    assert (found.rows.tolist(), found.columns.tolist()) == ([8], [8])
    assert found.sides[:, 0].tolist() == [4.0, 4.0, 1.0, 1.0]  # from (34, 34); clamped to 1


def test_a_perfect_answer_costs_nothing() -> None:
    boxes = torch.tensor([[8.0, 8.0, 24.0, 40.0]])
    target = centre_targets(boxes, 16)
    sides = torch.ones(1, 4, 16, 16)
    sides[0][:, target.rows, target.columns] = target.sides
    logits = torch.where(target.heat == 1, 20.0, -20.0)[None]
    assert float(detection_loss(Maps(logits, sides), [boxes])) < 1e-3
    assert float(detection_loss(Maps(-logits, sides), [boxes])) > 10


def test_the_loss_is_that_of_centernet_per_object() -> None:
    """A centre at probability 0.8, a cell beside it at 0.3 where the heat is 0.5, and boxes as wanted."""
    boxes = torch.tensor([[8.0, 8.0, 24.0, 40.0]])
    target = centre_targets(boxes, 16)
    sides = torch.ones(1, 4, 16, 16)
    sides[0][:, target.rows, target.columns] = target.sides
    chances = torch.full((1, 16, 16), 1e-9)
    chances[0, target.rows, target.columns] = 0.8
    row, column = int(target.rows[0]), int(target.columns[0]) + 2
    chances[0, row, column] = 0.3
    heat = float(target.heat[row, column])
    wanted = -(0.2**2) * math.log(0.8) - (1 - heat) ** 4 * 0.3**2 * math.log(0.7)
    maps = Maps(torch.logit(chances.double()), sides.double())
    assert 0.01 < heat < 0.99
    assert float(detection_loss(maps, [boxes])) == pytest.approx(wanted, rel=1e-4)
    both = Maps(maps.centres.repeat(2, 1, 1), maps.sides.repeat(2, 1, 1, 1))
    assert float(detection_loss(both, [boxes, boxes])) == pytest.approx(wanted, rel=1e-4)


@pytest.fixture(scope="module")
def learned() -> tuple[Sam, list[Example], list[np.ndarray]]:
    sam = load_model("vit_n").sam
    examples, boxes = [], []
    for seed in range(3):
        image, labels = picture(seed)
        embedding = encode(sam, [image])
        corners = np.array([_box(labels == value) for value in (1, 2, 3) if (labels == value).any()], np.float32)
        boxes.append(corners)
        examples.append(Example(embedding.features, boxes_to_input(torch.from_numpy(corners), embedding.frames[0])))
    return sam, examples, boxes


def test_it_learns_to_find_objects(learned: tuple[Sam, list[Example], list[np.ndarray]]) -> None:
    sam, examples, _ = learned
    side = sam.config.image_size
    torch.manual_seed(0)
    detector = detector_for(sam.config, width=16)
    losses = fit(detector, examples, FitConfig(iterations=60, images=3, width=16, learning_rate=1e-2))
    assert np.mean(losses[-5:]) < 0.35 * np.mean(losses[:5])
    for example in examples:
        found = detect(detector, example.features, (side * 3 // 4, side), limit=10)  # in the frame of the examples
        assert (np.diff(found.scores) <= 0).all()
        best = [max(_iou(box, other) for other in found.boxes[:6]) for box in example.boxes.numpy()]
        assert np.mean(best) > 0.5
        assert found.boxes[:, 2].max() <= side
        assert found.boxes[:, 3].max() <= side * 3 // 4  # nothing in the padding


def test_the_same_examples_and_seed_give_the_same_weights(
    learned: tuple[Sam, list[Example], list[np.ndarray]],
) -> None:
    sam, examples, _ = learned
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        detector = detector_for(sam.config, width=8)
        fit(detector, examples, FitConfig(iterations=3, width=8))
        states.append(detector.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_every_step_has_gradients_of_its_own_of_at_most_length_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """With steps so short that the second finds what the first did."""
    embedding = encode(Sam(vit_test()).eval(), [picture(0)[0]])
    example = Example(embedding.features, torch.tensor([[8.0, 8.0, 24.0, 40.0]]))
    seen, clip = [], torch.nn.utils.clip_grad_norm_

    def noted(parameters: Iterable[torch.nn.Parameter], limit: float) -> torch.Tensor:
        learning = list(parameters)
        seen.append([p.grad.clone() for p in learning if p.grad is not None])
        return clip(learning, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", noted)
    detector = detector_for(vit_test(), width=8)
    fit(detector, [example], FitConfig(iterations=2, images=1, width=8, learning_rate=1e-9, weight_decay=0))
    first, second = seen
    torch.testing.assert_close(first, second)
    assert torch.nn.utils.get_total_norm(first) > 1
    kept = [p.grad for p in detector.parameters() if p.grad is not None]
    assert torch.nn.utils.get_total_norm(kept) == pytest.approx(1, rel=1e-4)
    assert not detector.training


def test_any_model_has_a_head() -> None:
    sam = Sam(vit_test()).eval()
    image, _ = picture(0)
    embedding = encode(sam, [image])
    detector = detector_for(vit_test(), width=8).eval()
    assert detector(embedding.features).centres.shape == (1, 16, 16)
    assert len(detect(detector, embedding.features, (48, 64)).boxes) == 0  # an untrained head is sure of nothing
    assert detector_for(vit_n(), width=8)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no object to train the detector on"):
        fit(detector_for(vit_test(), width=8), [], FitConfig(width=8))
    with pytest.raises(ValueError, match="multiple of 8"):
        FitConfig(width=12)
    with pytest.raises(ValueError, match="are positive"):
        FitConfig(iterations=0)


def _box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    areas = [np.prod(each[2:] - each[:2]) for each in (a, b)]
    return float(sides.prod() / (sum(areas) - sides.prod()))
