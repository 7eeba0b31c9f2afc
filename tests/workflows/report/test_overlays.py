import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from sam_core.masks.batch import MaskRecords
from workflows.report.overlays import colours, overlay, paint


def records(masks: list[NDArray[np.bool_]]) -> MaskRecords:
    """Masks encoded by pycocotools."""
    encoded = [coco.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    count = len(masks)
    return MaskRecords(
        size=masks[0].shape,
        rle=tuple(rle["counts"] for rle in encoded),
        boxes=np.array([coco.toBbox(rle) for rle in encoded], np.int64).reshape(count, 4),
        areas=np.array([mask.sum() for mask in masks], np.int64),
        predicted_iou=np.ones(count, np.float32),
        stability_score=np.ones(count, np.float32),
        points=np.zeros((count, 2), np.float32),
        crop_boxes=np.zeros((count, 4), np.int32),
    )


def blob(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A ragged ellipse, perhaps over the image's border."""
    y, x = np.mgrid[: size[0], : size[1]]
    centre, radius = rng.uniform(0, size), rng.uniform(2, 15, 2)
    inside = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
    inside &= rng.random(size) < 0.9
    inside[int(centre[0]), int(centre[1])] = True
    return inside


@pytest.mark.parametrize("seed", range(5))
def test_at_full_size_exactly_the_masks_are_painted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [blob((40, 50), rng) for _ in range(6)]

    layer = paint(records(masks), (40, 50))

    np.testing.assert_array_equal(layer[:, :, 3] > 0, np.any(masks, axis=0))


@pytest.mark.parametrize("size", [(20, 25), (13, 50), (80, 100), (1, 1)])
def test_at_other_sizes_a_pixel_is_what_lies_at_its_centre(size: tuple[int, int]) -> None:
    mask = blob((40, 50), np.random.default_rng(3))
    mask[0, 0] = mask[-1, -1] = True

    layer = paint(records([mask]), size)

    y = np.floor((np.arange(size[0]) + 0.5) * 40 / size[0]).astype(int)
    x = np.floor((np.arange(size[1]) + 0.5) * 50 / size[1]).astype(int)
    np.testing.assert_array_equal(layer[:, :, 3] > 0, mask[np.ix_(y, x)])


def test_smaller_masks_lie_on_larger_ones() -> None:
    large, small = np.ones((9, 9), bool), np.zeros((9, 9), bool)
    small[3:6, 3:6] = True

    layer = paint(records([small, large]), (9, 9))

    assert tuple(layer[4, 4, :3]) == tuple(colours(2)[1])
    assert tuple(layer[0, 0, :3]) == tuple(colours(2)[0])


def test_a_border_surrounds_a_mask_but_not_the_image() -> None:
    mask = np.zeros((7, 9), bool)
    mask[:, :5] = True

    alpha = paint(records([mask]), (7, 9))[:, :, 3]

    assert len(np.unique(alpha[:, :4])) == 1
    assert (alpha[:, 4] > alpha[:, 3]).all()
    assert (alpha[:, 5:] == 0).all()


def test_overlay_leaves_what_no_mask_covers() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    mask = blob((40, 50), rng)

    shown = overlay(image, records([mask]))

    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[~mask], image[~mask])
    assert (shown[mask] != image[mask]).any(axis=1).mean() > 0.9


def test_a_tall_picture_is_blended_as_a_whole_one_would_be() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (600, 30, 3), dtype=np.uint8)
    masks = records([np.ones((600, 30), np.bool_), rng.random((600, 30)) < 0.3])
    layer = paint(masks, (600, 30)).astype(np.float64)
    alpha = layer[:, :, 3:] / 255

    blended = image * (1 - alpha) + layer[:, :, :3] * alpha

    assert np.abs(overlay(image, masks) - blended).max() <= 0.5 + 1e-4


def test_colours_are_repeatable_bright_and_unlike_their_neighbours() -> None:
    first = colours(200)

    np.testing.assert_array_equal(first[:100], colours(100))
    assert np.abs(np.diff(first.astype(int), axis=0)).sum(axis=1).min() > 100
    assert (first.max(axis=1) > 120).all()
    assert (colours(200, seed=1) != first).any()


def test_no_masks_no_colours() -> None:
    assert colours(0).shape == (0, 3)
