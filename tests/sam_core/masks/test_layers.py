"""Layers of labels against masks that are drawn pixel by pixel."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sam_core.masks.layers import MOST_LABELS, label_layers
from sam_core.masks.rle import compress_all, encode, joined

SIZE = (37, 53)


def bitmaps(count: int) -> list[NDArray[np.bool_]]:
    """Discs with holes of noise, the last of them the whole image."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    discs = [
        (np.hypot(y - rng.uniform(0, SIZE[0]), x - rng.uniform(0, SIZE[1])) < rng.uniform(2, 12))
        & (rng.random(SIZE) < 0.8)
        for _ in range(count)
    ]
    return [*(disc for disc in discs if disc.any()), np.ones(SIZE, bool)]


def first_fit(masks: list[NDArray[np.bool_]], most: int) -> tuple[list[NDArray[np.int64]], list[tuple[int, int]]]:
    """Each mask into the first layer with room for it; the layers, and layer and label of each."""
    layers: list[NDArray[np.int64]] = []
    places = []
    for mask in masks:
        fitting = (n for n, layer in enumerate(layers) if layer.max() < most and not layer[mask].any())
        number = next(fitting, len(layers))
        if number == len(layers):
            layers.append(np.zeros(SIZE, np.int64))
        label = int(layers[number].max()) + 1
        layers[number][mask] = label
        places.append((number, label))
    return layers, places


@pytest.mark.parametrize("most", [1, 3, MOST_LABELS])
def test_each_mask_lies_in_the_first_layer_that_has_room(most: int) -> None:
    masks = bitmaps(60)
    wanted, places = first_fit(masks, most)
    found = list(label_layers([encode(mask) for mask in masks], SIZE, most=most))
    assert len(found) == len(wanted) > 3
    for number, (labels, drawn) in enumerate(found):
        assert labels.dtype == np.uint16
        np.testing.assert_array_equal(labels, wanted[number])
        np.testing.assert_array_equal(drawn, [label if layer == number else 0 for layer, label in places])


def test_no_mask_is_one_empty_layer() -> None:
    ((labels, drawn),) = label_layers([], SIZE)
    assert (labels.shape, labels.any(), len(drawn)) == (SIZE, False, 0)


def test_the_last_label_of_a_layer_is_that_of_16_bits() -> None:
    """A label of 65,536 would be 0: the mask would be lost."""
    size = (1, MOST_LABELS + 1)
    pixels = [np.array([x, 1, MOST_LABELS - x], np.int64) for x in range(size[1])]
    rles = compress_all(*joined(pixels))
    (first, drawn), (second, others) = label_layers(rles, size)
    np.testing.assert_array_equal(first[0], [*range(1, MOST_LABELS + 1), 0])
    np.testing.assert_array_equal(drawn, first[0])
    assert (second[0, -1], others[-1], others[:-1].any()) == (1, 1, False)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit a mask of 53x37 px"):
        next(label_layers([encode(np.ones((3, 4), bool))], SIZE))
