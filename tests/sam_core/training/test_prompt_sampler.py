"""Simulated prompts: where they may lie, how often, and against slow versions."""

import numpy as np
import pytest
import torch

from sam_core.training.draws import Draws
from sam_core.training.prompt_sampler import (
    boxes_around,
    correction_points,
    first_points,
    noised_boxes,
    random_pixel,
)


def draws(count: int, seed: int = 0) -> Draws:
    return Draws((torch.Generator().manual_seed(seed),), (count,), torch.device("cpu"))


def blobs(seed: int = 0, n: int = 40) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, 24, 30), bool)
    for mask in masks:
        y, x = rng.integers(0, 15, 2)
        mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 15)] = True
    return torch.from_numpy(masks)


def test_first_points_lie_in_their_masks() -> None:
    masks = blobs()
    clicks = first_points(masks, draws(len(masks)))
    x, y = clicks.xy.long().T
    assert masks[torch.arange(len(masks)), y, x].all()
    assert (clicks.labels == 1).all()


def test_every_pixel_of_a_region_is_equally_likely() -> None:
    region = torch.zeros(12000, 3, 4, dtype=torch.bool)
    region[:, 1, 1:4] = True
    region[:, 2, 0] = True
    counts = torch.bincount(
        random_pixel(region, torch.rand(len(region), generator=torch.Generator().manual_seed(1))), minlength=12
    )
    assert counts.nonzero()[:, 0].tolist() == [5, 6, 7, 8]
    assert (counts[5:9].float() / 12000 - 0.25).abs().max() < 0.02


def test_corrections_lie_where_prediction_and_truth_differ_and_tell_the_truth() -> None:
    truth, prediction = blobs(1), blobs(2)
    clicks = correction_points(prediction, truth, torch.ones_like(truth), draws(len(truth)))
    rows = torch.arange(len(truth))
    x, y = clicks.xy.long().T
    assert (prediction[rows, y, x] != truth[rows, y, x]).all()
    assert (clicks.labels.bool() == truth[rows, y, x]).all()


def test_a_perfect_prediction_still_gets_a_true_click() -> None:
    truth = blobs(3)
    clicks = correction_points(truth, truth, torch.ones_like(truth), draws(len(truth)))
    x, y = clicks.xy.long().T
    assert (clicks.labels.bool() == truth[torch.arange(len(truth)), y, x]).all()


@pytest.mark.parametrize("right", [True, False])
def test_padding_gets_no_clicks_whatever_is_predicted_there(right: bool) -> None:
    truth = torch.zeros(500, 24, 30, dtype=torch.bool)
    truth[:, 2:5, 3:9] = True
    image = torch.zeros_like(truth)
    image[:, :10, :20] = True
    prediction = truth.clone()
    prediction[:, 10:] = True
    prediction[:, 7, 7] = not right
    x, y = correction_points(prediction, truth, image, draws(len(truth))).xy.T
    assert ((x < 20) & (y < 10)).all()
    assert right or ((x == 7) & (y == 7)).all()


def test_tight_boxes_equal_a_plain_search() -> None:
    masks = blobs(4)
    for mask, box in zip(masks.numpy(), boxes_around(masks).tolist(), strict=True):
        ys, xs = np.nonzero(mask)
        assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_box_noise_is_bounded_by_the_cap_and_by_the_image() -> None:
    masks = torch.zeros(3000, 200, 300, dtype=torch.bool)
    masks[:, 40:180, 20:260] = True
    sizes = torch.tensor([[190, 265]]).expand(len(masks), -1)  # of the image; the rest is padding
    boxes = noised_boxes(masks, sizes, draws(len(masks)))
    moved = boxes - boxes_around(masks)
    assert moved.abs().max() <= 20
    expected = np.clip(np.random.default_rng(0).normal(0, 14, 200_000), -20, 20).std()  # 10 % of 140 px
    assert abs(moved[:, 1].std().item() - expected) < 0.4
    assert boxes.min() >= 0
    assert boxes[:, 2].max() == 265
    assert boxes[:, 3].max() == 190


def test_a_pixel_is_the_one_that_a_plain_count_finds() -> None:
    masks = blobs(5)
    uniform = torch.rand(len(masks), generator=torch.Generator().manual_seed(3))
    for mask, share, found in zip(masks.numpy(), uniform.tolist(), random_pixel(masks, uniform).tolist(), strict=True):
        pixels = [index for index, inside in enumerate(mask.ravel()) if inside]
        assert found == pixels[int(share * len(pixels))]
