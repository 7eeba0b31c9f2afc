"""Each classical baseline on a picture that it must get right, and the bookkeeping around them."""

import numpy as np
import pytest
import torch

from sam_core.metrics.iou import mask_iou
from tests.benchmarks.baselines import BASELINES, Baseline, best_triple, disc, otsu_watershed
from tests.benchmarks.classical import baseline_iou, figure
from tests.benchmarks.ground_truth import TrueImage


def bright_disc_on_dark() -> TrueImage:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    mask = (x - 70) ** 2 + (y - 40) ** 2 <= 18**2
    image = np.where(mask[..., None], (200, 180, 40), (30, 50, 90)) + rng.integers(-6, 7, (96, 128, 3))
    return TrueImage("disc", image.astype(np.uint8), mask[None], np.array([float(mask.sum())]))


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
def test_finds_an_easy_object_at_some_parameter(baseline: Baseline) -> None:
    iou = baseline_iou(baseline, bright_disc_on_dark())
    assert iou.shape == (1, len(baseline.parameters))
    assert iou.max() > 0.8


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
def test_masks_hold_their_click(baseline: Baseline) -> None:
    image, clicks = bright_disc_on_dark().image, np.array([[70, 40], [0, 0], [127, 95]])
    masks = baseline.segment(image, clicks, baseline.parameters[1])
    assert masks.shape == (3, 96, 128)
    assert masks.dtype == np.bool_
    assert [mask[y, x] for mask, (x, y) in zip(masks, clicks, strict=True)] == [True] * 3


def test_a_small_cell_beside_a_large_one_is_a_cell() -> None:
    y, x = np.mgrid[:96, :128]
    cells = np.array([(x - 30) ** 2 + (y - 40) ** 2 <= 20**2, (x - 62) ** 2 + (y - 40) ** 2 <= 6**2])
    image = np.where(cells.any(0)[..., None], np.uint8(220), np.uint8(20)).repeat(3, 2)
    found = otsu_watershed(image, np.array([[30, 40], [62, 40]]), 40)
    assert mask_iou(torch.from_numpy(found), torch.from_numpy(cells)).min() > 0.8


def test_disc_radius_is_a_share_of_the_longest_side() -> None:
    mask = disc(np.zeros((100, 200, 3), np.uint8), np.array([[100, 50]]), 0.1)[0]
    assert mask.sum() == pytest.approx(np.pi * 20**2, rel=0.02)


def test_figure_is_that_of_the_best_parameter() -> None:
    iou = np.array([[0.1, 0.6, 0.2], [0.3, 0.4, 0.9]])
    found = figure(Baseline("b", "size", (1, 2, 3), disc), iou)
    assert (found.miou, found.parameter, found.masks) == (pytest.approx(0.55), 3, 2)
    assert found.by_parameter == pytest.approx({"1": 0.2, "2": 0.5, "3": 0.55})


def test_best_triple_against_every_choice() -> None:
    iou = np.random.default_rng(0).random((20, 5))
    columns, value = best_triple(iou)
    every = {
        (i, j, k): torch.tensor(iou[:, [i, j, k]]).amax(1).mean().item()
        for i in range(5)
        for j in range(i + 1, 5)
        for k in range(j + 1, 5)
    }
    assert value == pytest.approx(max(every.values()))
    assert every[columns] == pytest.approx(value)


def test_every_mask_is_asked_for() -> None:
    image = bright_disc_on_dark()
    two = TrueImage("two", image.image, np.concatenate([image.masks, ~image.masks]), np.array([1.0, 2.0]))
    for baseline in BASELINES:
        assert baseline_iou(baseline, two).shape == (2, len(baseline.parameters))
