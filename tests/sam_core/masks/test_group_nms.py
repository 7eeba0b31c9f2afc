"""NMS on a device against the loop on the host, group by group."""

import numpy as np
import pytest
import torch

from sam_core.masks import group_nms
from sam_core.masks.group_nms import nms_in_groups
from sam_core.masks.nms import nms
from tests.sam_core.masks.test_nms import quadratic_nms, random_boxes


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("side", [4, 30])
@pytest.mark.parametrize("block", [7, 64, 1024])
def test_agrees_with_the_loops_in_each_group(
    threshold: float, side: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_nms, "BLOCK", block)
    rng = np.random.default_rng(3)
    boxes, groups = random_boxes(250, side=side, seed=1), rng.integers(0, 3, 250)
    scores = rng.choice(np.float32([0.5, 0.8, 0.9, 0.95]), size=250)
    kept = nms_in_groups(*map(torch.from_numpy, (boxes, scores, groups)), threshold=threshold).numpy()
    for group in range(3):
        rows = np.flatnonzero(groups == group)
        ours = kept[groups[kept] == group].tolist()
        assert ours == rows[nms(boxes[rows], scores[rows], threshold=threshold)].tolist()
        assert ours == rows[quadratic_nms(boxes[rows], scores[rows], threshold)].tolist()


def test_a_long_chain_of_suppressions() -> None:
    """Every box overlaps its two neighbours alone: the first, third, fifth and so on stay."""
    start = np.arange(0, 400, 4)
    boxes = np.stack([start, np.zeros(100, int), start + 12, np.full(100, 10)], axis=1)
    scores, groups = np.linspace(1, 0.5, 100, dtype=np.float32), np.zeros(100, int)
    kept = nms_in_groups(*map(torch.from_numpy, (boxes, scores, groups)), threshold=0.4)
    assert kept.tolist() == list(range(0, 100, 2))


def test_no_boxes() -> None:
    empty = torch.empty(0, 4, dtype=torch.int64), torch.empty(0), torch.empty(0, dtype=torch.int64)
    assert nms_in_groups(*empty, threshold=0.7).tolist() == []
