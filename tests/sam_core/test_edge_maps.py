"""Edges of masks: where they lie, what the image's border does, and which ridges stay."""

import numpy as np
import pytest
import torch

from sam_core.edge_maps import DrawnMasks, border_slope, edge_map, edge_nms, masks_of_grid, strength
from sam_core.generator import MaskGenerator
from sam_core.geometry import frame_of
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from sam_core.recipes import Recipe


def disc(height: int, width: int, *, y: float, x: float, radius: float, sharpness: float = 2.0) -> np.ndarray:
    """Probabilities of a disc with a soft border."""
    rows, columns = np.indices((height, width))
    return (1 / (1 + np.exp(sharpness * (np.hypot(rows - y, columns - x) - radius)))).astype(np.float32)


def test_slope_is_kept_on_both_sides_of_the_border_only() -> None:
    slope = border_slope(disc(40, 50, y=20, x=25, radius=10))
    rows, columns = np.nonzero(slope)
    distance = np.hypot(rows - 20, columns - 25)
    assert len(rows)
    assert np.abs(distance - 10).max() < 1.5


def test_the_border_of_the_image_is_no_edge() -> None:
    assert not border_slope(np.full((20, 30), 0.9, np.float32)).any()
    half = border_slope(np.repeat(disc(1, 30, y=0, x=0, radius=15), 20, 0))
    columns = np.nonzero(half)[1]
    assert (columns.min(), columns.max()) == (14, 15)
    assert (half > 0).sum() == 40


def test_nms_leaves_the_ridge() -> None:
    rows, columns = np.indices((60, 60))
    for distance in (columns - 30.0, (rows + columns - 60) / np.sqrt(2), np.hypot(rows - 30, columns - 30) - 18):
        ridge = np.exp(-((distance / 2) ** 2)).astype(np.float32)
        kept = edge_nms(ridge) > 0.05
        inside = kept[5:-5, 5:-5]
        assert np.abs(distance[5:-5, 5:-5][inside]).max() <= 1.0
        assert inside.sum() >= 45  # nowhere broken
    assert not edge_nms(np.zeros((9, 9), np.float32)).any()


def test_ridges_fade_towards_the_border_of_the_image() -> None:
    rows = np.indices((30, 40))[0]
    found = edge_nms(np.exp(-(((rows - 15) / 2.0) ** 2)).astype(np.float32))
    assert found[15, [0, 1, 5, 20]].tolist() == pytest.approx([0, 0.2, 1, 1])
    last = edge_nms((rows == 28).astype(np.float32))
    assert last.max() == pytest.approx(0.2)


def test_the_strongest_mask_counts_and_the_map_ends_at_one() -> None:
    frame = frame_of((64, 64), image_size=64)
    logits = torch.full((2, 16, 16), -8.0)
    logits[0, 4:12, 4:12], logits[1, :, 8:] = 8.0, 2.0
    found = strength(DrawnMasks(logits, frame))
    assert found.shape == (64, 64)
    assert found.max() == 1
    alone = strength(DrawnMasks(logits[:1], frame))
    np.testing.assert_allclose(found[14:18, 24], alone[14:18, 24], atol=1e-6)
    assert found[60, 30:34].max() > 0
    assert not strength(DrawnMasks(logits[:0], frame)).any()


def test_masks_are_those_of_the_generator() -> None:
    sam = Sam(vit_test()).eval()
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    recipe = Recipe(points_per_side=4, min_predicted_iou=0.0, min_stability_score=0.0)
    found = MaskGenerator(sam, recipe).generate(image).masks
    assert len(masks_of_grid(sam, image, recipe)) == sum(area > 0 for area in found.areas)
    edges = edge_map(sam, image, recipe)
    assert edges.shape == (48, 64)
    assert 0 < edges.max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 40), (40, 2)])
def test_an_image_that_is_all_border_has_no_edges(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    edges = edge_map(Sam(vit_test()).eval(), image, Recipe(points_per_side=2))
    assert edges.shape == size
    assert not edges.any()
