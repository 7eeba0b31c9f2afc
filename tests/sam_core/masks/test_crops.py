"""Crops and point grids against the released code, and on images smaller than their crops."""

from types import ModuleType

import numpy as np
import pytest

from sam_core.masks.crops import crop_plan, layer_boxes, point_grid
from sam_core.recipes import Recipe, reference, sa1b

SIZES = [(1200, 1800), (1500, 2250), (333, 1024), (3300, 4950), (97, 64)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0.0, 512 / 1500, 0.5])
def test_boxes_are_those_of_the_released_code(amg: ModuleType, size: tuple[int, int], overlap: float) -> None:
    boxes, layers = amg.generate_crop_boxes(size, 3, overlap)
    ours = [(list(box), layer) for layer in range(4) for box in layer_boxes(size, layer=layer, overlap=overlap)]
    assert ours == list(zip(boxes, layers, strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_points_are_those_of_the_released_code(amg: ModuleType, size: tuple[int, int]) -> None:
    grids = amg.build_all_layer_point_grids(32, 2, 2)
    boxes, layers = amg.generate_crop_boxes(size, 2, 512 / 1500)
    for crop, box, layer in zip(crop_plan(size, sa1b()), boxes, layers, strict=True):
        x0, y0, x1, y1 = box
        assert np.allclose(crop.points, grids[layer] * [x1 - x0, y1 - y0] + [x0, y0], rtol=0, atol=1e-9)


def test_stage_three_has_21_windows_and_3072_prompts() -> None:
    plan = crop_plan((1500, 2250), sa1b())
    assert len(plan) == 1 + 4 + 16
    assert sum(len(crop.points) for crop in plan) == 3072
    assert plan[0].box == (0, 0, 2250, 1500)
    assert plan[1].box == (0, 0, 1381, 1006)


def test_reference_has_one_window_and_1024_prompts() -> None:
    (crop,) = crop_plan((480, 640), reference())
    assert crop.box == (0, 0, 640, 480)
    assert crop.points[:2].tolist() == [[10.0, 7.5], [30.0, 7.5]]
    assert len(crop.points) == 1024


def test_grid_of_one_point_is_the_centre() -> None:
    assert point_grid(1).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (2, 3), (5000, 2)])
def test_small_images_have_no_empty_crops(size: tuple[int, int]) -> None:
    height, width = size
    for crop in crop_plan(size, Recipe(crop_layers=3)):
        x0, y0, x1, y1 = crop.box
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
