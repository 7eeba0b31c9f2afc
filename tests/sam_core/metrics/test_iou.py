"""Mask IoU against pycocotools and against the definition, pixel by pixel."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from sam_core.metrics.iou import iou_matrix, mask_iou


def random_masks(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(count, 1, 1, generator=generator)
    return torch.rand(count, 23, 17, generator=generator) < share


def encoded(masks: torch.Tensor) -> list[dict[str, object]]:
    return [coco.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks]


def test_matrix_agrees_with_pycocotools() -> None:
    masks, truth = random_masks(7, 0), random_masks(5, 1)
    masks[0], truth[0], truth[1] = False, False, True
    expected = coco.iou(encoded(masks), encoded(truth), [0] * len(truth))
    np.testing.assert_allclose(iou_matrix(masks, truth), expected, atol=1e-12)


def test_aligned_iou_is_the_diagonal_and_broadcasts() -> None:
    masks, truth = random_masks(6, 2), random_masks(6, 3)
    torch.testing.assert_close(mask_iou(masks, truth), iou_matrix(masks, truth).diagonal())
    torch.testing.assert_close(mask_iou(masks[:, None], truth[None]), iou_matrix(masks, truth))


def test_definition_on_a_hand_made_pair() -> None:
    left, right = torch.zeros(1, 4, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)
    left[0, :2], right[0, 1:3] = True, True
    assert mask_iou(left, right).item() == pytest.approx(4 / 12)


def test_empty_masks_score_zero() -> None:
    nothing = torch.zeros(1, 3, 3, dtype=torch.bool)
    assert mask_iou(nothing, nothing).item() == 0
    assert mask_iou(nothing, ~nothing).item() == 0
    assert iou_matrix(nothing[:0], nothing).shape == (0, 1)


@pytest.mark.parametrize("function", [mask_iou, iou_matrix])
def test_refusals(function: object) -> None:
    assert callable(function)
    mask = torch.zeros(1, 3, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(3, 3\) px \(h, w\) against truth of \(3, 4\)"):
        function(mask, torch.zeros(1, 3, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="must be bool"):
        function(mask.float(), mask)
