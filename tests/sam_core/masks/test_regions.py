"""Small parts and holes: both rules on hand-made masks, and the released rule on random ones."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sam_core.masks import rle
from sam_core.masks.candidates import decoded, object_column
from sam_core.masks.regions import clean_candidates, clean_regions
from sam_core.recipes import SmallMaskRule

KEEP, DROP = SmallMaskRule.KEEP_LARGEST, SmallMaskRule.DROP


def picture(*rows: str) -> np.ndarray:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


CASES = {
    "a part below the threshold goes": (
        picture("#######", "#######", ".......", ".##...."),
        picture("#######", "#######", ".......", "......."),
    ),
    "a part that touches by a corner belongs": (
        picture("#####..", "#####..", ".....##", "......."),
        picture("#####..", "#####..", ".....##", "......."),
    ),
    "a hole below the threshold is filled": (
        picture("#######", "#.....#", "#.###.#", "#######")[:, ::-1],
        picture("#######", "#.....#", "#.###.#", "#######"),
    ),
    "background at the border is a hole too when it is small": (
        picture("######.", "######.", "######.", "######."),
        picture("#######", "#######", "#######", "#######"),
    ),
}


@pytest.mark.parametrize("rule", SmallMaskRule)
@pytest.mark.parametrize("case", CASES)
def test_parts_and_holes(case: str, rule: SmallMaskRule) -> None:
    before, after = CASES[case]
    assert np.array_equal(clean_regions(before, min_area=5, small_masks=rule), after)


def test_the_threshold_itself_is_large_enough() -> None:
    mask = picture("#####..", ".......", ".......")
    for rule in SmallMaskRule:
        assert clean_regions(mask, min_area=5, small_masks=rule) is mask


def test_a_mask_of_small_parts_keeps_its_largest_or_nothing() -> None:
    mask = picture("##......", "........", "###....#", "........", "........")
    largest = picture("........", "........", "###.....", "........", "........")
    assert np.array_equal(clean_regions(mask, min_area=5, small_masks=KEEP), largest)
    assert not clean_regions(mask, min_area=5, small_masks=DROP).any()


def test_a_thin_ring_is_filled_first_or_removed_first() -> None:
    ring = picture("......", ".###..", ".#.#..", ".###..", "......")
    disc = picture("......", ".###..", ".###..", ".###..", "......")
    assert np.array_equal(clean_regions(ring, min_area=9, small_masks=KEEP), disc)
    assert not clean_regions(ring, min_area=9, small_masks=DROP).any()


def released_rule(amg: ModuleType, mask: np.ndarray, min_area: int) -> tuple[np.ndarray, bool]:
    filled, holes = amg.remove_small_regions(mask, min_area, mode="holes")
    clean, islands = amg.remove_small_regions(filled, min_area, mode="islands")
    return clean, holes or islands


def test_of_equal_parts_the_same_one_stays_as_in_the_whole_image(amg: ModuleType) -> None:
    mask = np.zeros((4, 20), bool)
    mask[2, 3] = mask[3, 1] = True
    assert np.array_equal(clean_regions(mask, min_area=2, small_masks=KEEP), released_rule(amg, mask, 2)[0])


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Random texture inside a random box, so that every kind of background around a mask occurs."""
    height, width = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    rows, columns = (sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in (height, width))
    density = draw(st.sampled_from([0.02, 0.3, 0.5, 0.7, 0.95, 1.0]))
    mask = np.zeros((height, width), bool)
    inside = mask[slice(*rows), slice(*columns)]
    inside[:] = np.random.default_rng(draw(st.integers(0, 10**6))).random(inside.shape) < density
    return mask


AREAS = st.sampled_from([1, 2, 3, 10, 60, 500])


@settings(deadline=None, derandomize=True, max_examples=200)
@given(masks().filter(np.any), AREAS)
def test_keep_largest_is_the_released_rule_on_the_whole_image(amg: ModuleType, mask: np.ndarray, area: int) -> None:
    clean = clean_regions(mask, min_area=area, small_masks=KEEP)
    expected, changed = released_rule(amg, mask, area)
    assert np.array_equal(clean, expected)
    assert (clean is not mask) == changed


def without_small_components(mask: np.ndarray, min_area: int) -> np.ndarray:
    labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
    large = [i for i in range(1, n + 1) if (labels == i).sum() >= min_area]
    return np.isin(labels, large)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(masks(), AREAS)
def test_drop_is_the_rule_of_the_paper_on_the_whole_image(mask: np.ndarray, area: int) -> None:
    trimmed = without_small_components(mask, area)
    expected = ~without_small_components(~trimmed, area) if trimmed.any() else trimmed
    assert np.array_equal(clean_regions(mask, min_area=area, small_masks=DROP), expected)


def test_candidates_are_measured_anew_where_they_changed() -> None:
    masks = [
        picture("###.#", "###..", "....."),
        picture("###..", "###..", "....."),
        picture("#....", ".....", "....#"),
    ]
    candidates = decoded(np.zeros((1, 2)), np.zeros((1, 3), np.float32), (0, 0, 5, 3))
    candidates = replace(candidates, rle=object_column([rle.encode(mask) for mask in masks]))
    cleaned, changed = clean_candidates(candidates, (3, 5), min_area=3, small_masks=DROP)
    assert changed.tolist() == [True, False, True]
    assert cleaned.boxes[0].tolist() == [0, 0, 2, 1]
    assert cleaned.areas[[0, 2]].tolist() == [6, 0]
    assert cleaned.rle[0] == cleaned.rle[1] == candidates.rle[1]
