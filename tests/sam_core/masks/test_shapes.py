"""Shapes from run lengths against scipy's hulls, pycocotools' overlaps and plain pixels."""

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.spatial import ConvexHull

from sam_core.masks import rle, shapes

HEIGHT, WIDTH = 37, 53


def bitmaps() -> list[NDArray[np.bool_]]:
    """Random blobs, strips and combs, one pixel, a box, the whole image, and nothing."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    blobs = [
        (np.hypot(y - rng.uniform(0, HEIGHT), x - rng.uniform(0, WIDTH)) < rng.uniform(2, 20))
        & (rng.random((HEIGHT, WIDTH)) < density)
        for density in (0.02, 0.3, 0.9, 1.0)
        for _ in range(8)
    ]
    pixel, box, comb = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(3))
    pixel[5, 7] = True
    box[3:9, 10:30] = True
    comb[:, ::2] = True
    return [*(blob for blob in blobs if blob.any()), pixel, box, comb, np.ones((HEIGHT, WIDTH), bool)]


def as_runs(masks: list[NDArray[np.bool_]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    runs = [rle.run_lengths(mask) for mask in masks]
    return np.concatenate(runs), np.cumsum([0, *map(len, runs)])


def hull_area(mask: NDArray[np.bool_]) -> float:
    y, x = np.nonzero(mask)
    corners = np.concatenate([np.stack([x + dx, y + dy], axis=1) for dx in (0, 1) for dy in (0, 1)])
    return float(ConvexHull(corners).volume)


def test_concavity_is_what_the_hull_of_all_corners_leaves_empty() -> None:
    masks = bitmaps()
    found = shapes.concavity(*as_runs(masks), np.full(len(masks), HEIGHT))
    expected = [1 - mask.sum() / hull_area(mask) for mask in masks]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_concavity_of_nothing_is_not_a_number() -> None:
    empty = [np.zeros((HEIGHT, WIDTH), bool)]
    assert np.isnan(shapes.concavity(*as_runs(empty), np.array([HEIGHT]))).all()


def test_pairs_overlap_as_pycocotools_says() -> None:
    masks = bitmaps()
    pairs = np.stack(np.triu_indices(len(masks)), axis=1)
    coded = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    expected = coco_mask.iou(coded, coded, [0] * len(coded))[pairs[:, 0], pairs[:, 1]]
    np.testing.assert_allclose(shapes.pair_ious(*as_runs(masks), pairs), expected, atol=1e-12)


@pytest.mark.parametrize("images", [1, 3])
def test_union_covers_each_pixel_once(images: int) -> None:
    masks = [*bitmaps()[:-2], np.zeros((HEIGHT, WIDTH), bool)]
    image = np.arange(len(masks)) % images
    found = shapes.union_areas(*as_runs(masks), image, images + 1)
    expected = [np.any([m for m, i in zip(masks, image, strict=True) if i == k], axis=0).sum() for k in range(images)]
    np.testing.assert_array_equal(found, [*expected, 0])  # the last image has no masks


def test_areas_are_pixels() -> None:
    masks = bitmaps()
    np.testing.assert_array_equal(shapes.mask_areas(*as_runs(masks)), [mask.sum() for mask in masks])
