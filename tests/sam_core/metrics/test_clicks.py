"""Click placement against a search over all pixel pairs."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_core.metrics.clicks import RandomClicks, correction_clicks, deepest_pixel, first_clicks

Mask = npt.NDArray[np.bool_]


def slow_deepest(region: Mask) -> tuple[int, int, float]:
    """Every pixel of the region against every pixel outside, the plane beyond the image being outside."""
    if not region.any():
        return 0, 0, 0.0
    inside, outside = np.argwhere(region), np.argwhere(~np.pad(region, 1)) - 1
    squared = ((inside[:, None] - outside) ** 2).sum(-1).min(1)
    y, x = inside[squared.argmax()]
    return int(x), int(y), float(np.sqrt(squared.max()))


@st.composite
def regions(draw: st.DrawFn) -> Mask:
    seed, share = draw(st.integers(0, 10**6)), draw(st.floats(0.0, 1.0))
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    return np.random.default_rng(seed).random(size) < share


@given(regions())
@settings(max_examples=200, deadline=None)
def test_deepest_pixel_agrees_with_the_search(region: Mask) -> None:
    x, y, distance = slow_deepest(region)
    found = deepest_pixel(region)
    assert (found.x, found.y) == (x, y)
    assert found.distance == pytest.approx(distance, abs=1e-5)


def test_image_borders_count_as_outside() -> None:
    everything = np.ones((1, 5, 9), np.bool_)
    clicks = first_clicks(everything)
    assert clicks.xy.tolist() == [[2.0, 2.0]]  # three px from left, top and bottom; first in row-major order
    assert clicks.labels.tolist() == [1]


def test_first_click_lies_inside_a_ring_not_in_its_hole() -> None:
    y, x = np.mgrid[:41, :41]
    radius = np.hypot(y - 20, x - 20)
    ring = ((radius > 8) & (radius < 18))[None]
    column, row = first_clicks(ring).xy[0].astype(int)
    assert ring[0, row, column]
    assert 11 <= radius[row, column] <= 15


def test_corrections_fall_on_the_deeper_of_misses_and_false_alarms() -> None:
    truth, prediction = np.zeros((3, 20, 30), np.bool_), np.zeros((3, 20, 30), np.bool_)
    truth[:, 2:9, 2:9] = True
    prediction[0, 2:9, 2:5] = True  # misses a 7 x 4 part
    prediction[1, 2:9, 2:9] = prediction[1, 4:15, 15:26] = True  # adds an 11 x 11 block
    prediction[2] = truth[2]
    clicks = correction_clicks(prediction, truth)
    assert clicks.labels.tolist() == [1, 0, -1]
    assert clicks.xy.tolist()[:2] == [[6.0, 3.0], [20.0, 9.0]]


def test_misses_and_false_alarms_are_separate_regions_where_they_touch() -> None:
    truth, prediction = np.zeros((1, 11, 22), np.bool_), np.zeros((1, 11, 22), np.bool_)
    truth[0, :, :11], prediction[0, :, 11:] = True, True
    clicks = correction_clicks(prediction, truth)
    assert clicks.xy.tolist() == [[5.0, 5.0]]
    assert clicks.labels.tolist() == [1]


@given(regions(), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_correction_lies_in_the_error_region_with_the_true_label(truth: Mask, seed: int) -> None:
    prediction = np.random.default_rng(seed).random(truth.shape) < 0.5
    clicks = correction_clicks(prediction[None], truth[None])
    x, y = clicks.xy[0].astype(int)
    if (prediction == truth).all():
        assert clicks.labels[0] == -1
    else:
        assert prediction[y, x] != truth[y, x]
        assert clicks.labels[0] == truth[y, x]


def test_an_empty_mask_is_refused() -> None:
    masks = np.ones((2, 4, 4), np.bool_)
    masks[1] = False
    with pytest.raises(ValueError, match="mask 1 of 2 is empty"):
        first_clicks(masks)


def test_no_masks_give_no_clicks() -> None:
    assert first_clicks(np.zeros((0, 4, 4), np.bool_)).xy.shape == (0, 2)


def test_random_clicks_fall_in_the_mask_and_then_in_the_error() -> None:
    truth, prediction = np.zeros((2, 6, 7), bool), np.zeros((2, 6, 7), bool)
    truth[:, 1:4, 2:5] = True
    prediction[0] = truth[0]
    prediction[1, 1:4, 2:4], prediction[1, 5, 6] = True, True  # three pixels missed, one too many
    clicker, places, kinds = RandomClicks(np.random.default_rng(0)), set(), set()
    for _ in range(200):
        first = clicker.first(truth)
        assert all(truth[n, int(y), int(x)] for n, (x, y) in enumerate(first.xy))
        assert first.labels.tolist() == [1, 1]
        places.add(tuple(first.xy[0]))
        second = clicker.correction(prediction, truth)
        x, y = second.xy[1].astype(int)
        assert prediction[1, y, x] != truth[1, y, x]
        assert second.labels.tolist() == [-1, int(truth[1, y, x])]
        kinds.add(int(second.labels[1]))
    assert (len(places), kinds) == (9, {0, 1})
    with pytest.raises(ValueError, match="mask 1 of 2 is empty"):
        clicker.first(np.stack([truth[0], np.zeros_like(truth[0])]))
