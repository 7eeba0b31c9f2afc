"""Mask IoU against pycocotools and against the definition, pixel by pixel."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from sam_core.masks.rle import encode
from sam_core.metrics.iou import iou_matrix, mask_iou


def random_masks(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(count, 1, 1, generator=generator)
    return torch.rand(count, 23, 17, generator=generator) < share


def counts(masks: torch.Tensor) -> list[bytes]:
    return [encode(mask) for mask in masks.numpy()]


def encoded(masks: torch.Tensor) -> list[dict[str, object]]:
    return [coco.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks]


def test_iou_is_that_of_pycocotools_and_broadcasts() -> None:
    masks, truth = random_masks(6, 2), random_masks(6, 3)
    masks[0], truth[0], truth[1] = False, False, True
    expected = coco.iou(encoded(masks), encoded(truth), [0] * len(truth))
    np.testing.assert_allclose(mask_iou(masks[:, None], truth[None]), expected, atol=1e-12)
    np.testing.assert_allclose(mask_iou(masks, truth), expected.diagonal(), atol=1e-12)


def test_the_matrix_of_run_lengths_is_that_of_pixels() -> None:
    masks, truth = random_masks(7, 0), random_masks(5, 1)
    masks[0], truth[0], truth[1] = False, False, True
    expected = mask_iou(masks[:, None], truth[None])
    np.testing.assert_allclose(iou_matrix(counts(masks), counts(truth), (23, 17)), expected, rtol=0, atol=1e-12)
    crowds = iou_matrix(counts(masks), counts(truth), (23, 17), crowd=[False, True, True, False, False])
    np.testing.assert_allclose(crowds[1:, 1], 1.0)  # of the whole picture
    shared = (masks[1:] & truth[2]).sum((1, 2)) / masks[1:].sum((1, 2))
    np.testing.assert_allclose(crowds[1:, 2], shared)
    np.testing.assert_allclose(crowds[:, 3:], expected[:, 3:])


def test_definition_on_a_hand_made_pair() -> None:
    left, right = torch.zeros(1, 4, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)
    left[0, :2], right[0, 1:3] = True, True
    assert mask_iou(left, right).item() == pytest.approx(4 / 12)


def test_empty_masks_score_zero() -> None:
    nothing = torch.zeros(1, 3, 3, dtype=torch.bool)
    assert mask_iou(nothing, nothing).item() == 0
    assert mask_iou(nothing, ~nothing).item() == 0
    assert iou_matrix([], counts(nothing), (3, 3)).shape == (0, 1)
    assert iou_matrix(counts(nothing), [], (3, 3)).shape == (1, 0)
    assert iou_matrix(counts(nothing), counts(nothing), (3, 3)).tolist() == [[0.0]]


def test_refusals() -> None:
    mask = torch.zeros(1, 3, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"\(3, 3\) px \(h, w\) against truth of \(3, 4\)"):
        mask_iou(mask, torch.zeros(1, 3, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="must be bool"):
        mask_iou(mask.float(), mask)
