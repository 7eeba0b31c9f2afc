"""Losses against slow, obvious versions, and the rule of the best of three."""

import math
from dataclasses import replace

import torch

from sam_core.training.losses import MASKS_AT_ONCE, LossWeights, dice_loss, focal_loss, iou_at_input, round_loss
from sam_core.training.targets import Truth, averaged


def example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 4, 5, generator=generator), torch.rand(2, 4, 5, generator=generator)


def truth(target: torch.Tensor) -> Truth:
    """Whole pictures whose logits are as large as they."""
    return Truth(target, target > 0.5, torch.ones_like(target, dtype=torch.bool))


def slow_focal(logits: list[float], target: list[float], alpha: float = 0.25, gamma: float = 2.0) -> float:
    total = 0.0
    for x, t in zip(logits, target, strict=True):
        p = 1 / (1 + math.exp(-x))
        cross_entropy = -(t * math.log(p) + (1 - t) * math.log(1 - p))
        miss = p * (1 - t) + (1 - p) * t
        total += (alpha * t + (1 - alpha) * (1 - t)) * miss**gamma * cross_entropy
    return total / len(logits)


def test_focal_and_dice_equal_plain_loops() -> None:
    logits, target = example()
    focal = focal_loss(logits, target[:, None], LossWeights())
    dice = dice_loss(logits, target[:, None])
    for n in range(2):
        truth = target[n].flatten().tolist()
        for m in range(3):
            values = logits[n, m].flatten().tolist()
            p = [1 / (1 + math.exp(-x)) for x in values]
            overlap = sum(a * b for a, b in zip(p, truth, strict=True))
            assert math.isclose(focal[n, m].item(), slow_focal(values, truth), rel_tol=1e-5)
            assert math.isclose(dice[n, m].item(), 1 - (2 * overlap + 1) / (sum(p) + sum(truth) + 1), rel_tol=1e-5)


def test_a_finer_mask_term_sees_where_in_a_pixel_of_the_logits_the_border_runs() -> None:
    """Two masks 2 px wide, left and right in one column of coarse pixels; logits that lean to the left."""
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, 4:10, 4:6] = masks[1, 4:10, 6:8] = True
    logits = (2.0 - torch.arange(4.0)).expand(2, 1, 4, 4)
    terms = {}
    for finer in (1, 2):
        weights = LossWeights(finer=finer)
        seen = Truth(averaged(masks, 4 * finer), masks, torch.ones_like(masks))
        drawn = torch.nn.functional.interpolate(logits, scale_factor=finer, mode="bilinear")
        expected = 20 * focal_loss(drawn, seen.averaged[:, None], weights) + dice_loss(drawn, seen.averaged[:, None])
        for n in range(2):
            one = Truth(*(part[n : n + 1] for part in (seen.averaged, seen.masks, seen.shown)))
            loss = round_loss(logits[n : n + 1], torch.zeros(1, 1), one, replace(weights, iou=0.0))
            assert torch.isclose(loss.total, expected[n, 0])
            terms[finer, n] = loss.total.item()
    assert terms[1, 0] == terms[1, 1]
    assert terms[2, 0] < terms[2, 1]


def test_only_the_best_output_carries_the_mask_gradient() -> None:
    logits, target = example()
    logits[0, 1] = 8 * (target[0] > 0.5) - 4.0
    logits.requires_grad_()
    loss = round_loss(logits, torch.zeros(2, 3), truth(target), LossWeights(iou=0.0))
    loss.total.backward()
    assert loss.best[0] == 1
    moved = logits.grad.abs().sum((-2, -1)) > 0
    assert moved.sum(1).tolist() == [1, 1]
    assert moved[0, 1]


def test_the_output_that_is_shown_takes_its_share_of_the_mask_gradient() -> None:
    logits, target = example()
    logits[0, 1] = 8 * (target[0] > 0.5) - 4.0
    logits.requires_grad_()
    predicted = torch.tensor([[0.1, 0.2, 0.9], [0.5, 0.3, 0.1]])
    alone = round_loss(logits, predicted, truth(target), LossWeights(iou=0.0))
    shared = round_loss(logits, predicted, truth(target), LossWeights(iou=0.0, chosen=0.25))
    shared.total.backward()
    assert (logits.grad[0].abs().sum((-2, -1)) > 0).tolist() == [False, True, True]
    terms = 20 * focal_loss(logits, target[:, None], LossWeights()) + dice_loss(logits, target[:, None])
    shown = terms[torch.arange(2), shared.chosen].mean()
    assert torch.isclose(shared.total, 0.75 * alone.total + 0.25 * shown)


def test_every_iou_output_learns_and_the_most_confident_goes_on() -> None:
    logits, target = example()
    predicted = torch.tensor([[0.1, 0.2, 0.9], [0.5, 0.3, 0.1]], requires_grad=True)
    loss = round_loss(logits, predicted, truth(target), LossWeights())
    loss.total.backward()
    assert (predicted.grad != 0).all()
    assert loss.chosen.tolist() == [2, 0]


def test_iou_of_two_empty_masks_is_zero() -> None:
    nothing = torch.zeros(1, 8, 8, dtype=torch.bool)
    assert iou_at_input(torch.full((1, 1, 2, 2), -1.0), nothing, ~nothing).item() == 0.0


def test_real_iou_is_that_of_the_mask_people_get() -> None:
    """Two masks that are alike at the logits' resolution, of which one is right at the input's; padding aside."""
    side, count = 64, MASKS_AT_ONCE + 1
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    masks[:, 20:44, 21:45] = True
    shown = torch.ones_like(masks)
    shown[:, 48:] = False
    right = 8 * averaged(masks, side // 4) - 4
    logits = torch.stack([right, torch.where(right > 0, 4.0, -0.1)], 1)
    logits[:, :, 14:] = 4.0  # what is drawn in the padding
    assert torch.equal(logits[:, 0] > 0, logits[:, 1] > 0)

    real = iou_at_input(logits, masks, shown)
    drawn = torch.nn.functional.interpolate(logits, (side, side), mode="bilinear") > 0
    for output in (0, 1):
        seen = drawn[0, output, :48]
        wanted = (seen & masks[0, :48]).sum() / (seen | masks[0, :48]).sum()
        assert torch.allclose(real[:, output], wanted.expand(count))
    assert (real[:, 0] > real[:, 1] + 0.1).all()
    loss = round_loss(logits, torch.zeros(count, 2), Truth(averaged(masks, side // 4), masks, shown), LossWeights())
    assert torch.equal(loss.real_iou, real)
