"""Boxes and the crop border rule against the released code and pycocotools."""

from types import ModuleType

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from sam_core.geometry import frame_of
from sam_core.masks.boxes import near_crop_edge, tight_boxes, to_xywh


def random_masks(*, n: int, size: tuple[int, int], density: float, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, *size, generator=torch.Generator().manual_seed(seed)) < density


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (23, 31)])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.5])
def test_tight_boxes_are_those_of_the_released_code(amg: ModuleType, size: tuple[int, int], density: float) -> None:
    masks = random_masks(n=40, size=size, density=density)
    assert torch.equal(tight_boxes(masks), amg.batched_mask_to_box(masks))


def test_results_count_pixels_as_pycocotools_does() -> None:
    masks = random_masks(n=40, size=(23, 31), density=0.01)
    masks = masks[masks.any(dim=2).any(dim=1)].numpy()
    expected = coco.toBbox([coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks])
    assert np.array_equal(to_xywh(tight_boxes(torch.from_numpy(masks)).numpy()), expected)


@pytest.mark.parametrize("crop_box", [(0, 0, 300, 200), (0, 0, 150, 100), (50, 60, 260, 170), (150, 0, 300, 200)])
def test_crop_border_rule_is_that_of_the_released_code(amg: ModuleType, crop_box: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = crop_box
    corners = np.random.default_rng(0).integers((x0, y0), (x1, y1), size=(5000, 2, 2))
    corners.sort(axis=1)
    boxes = corners.reshape(-1, 4)
    frame = frame_of((200, 300), image_size=64, crop_box=crop_box)
    in_crop = torch.from_numpy(boxes - [x0, y0, x0, y0])
    expected = amg.is_box_near_crop_edge(in_crop, list(crop_box), [0, 0, 300, 200]).numpy()
    assert np.array_equal(near_crop_edge(boxes, frame, tolerance=20), expected)
    assert expected.any() == (not frame.whole_image)


@pytest.mark.parametrize(("last_column", "rejected"), [(129, False), (130, True), (149, True)])
def test_twenty_pixels_are_near(last_column: int, rejected: bool) -> None:
    """The crop ends before column 150, inside an image of 300 columns; its other borders are image borders."""
    frame = frame_of((200, 300), image_size=64, crop_box=(0, 0, 150, 200))
    boxes = np.array([[0, 0, last_column, 199]])
    assert near_crop_edge(boxes, frame, tolerance=20).tolist() == [rejected]
