"""Small parts and holes: both rules on hand-made masks, and the released rule on random ones."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

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


@pytest.mark.parametrize("min_area", [1, 3, 10, 60])
@pytest.mark.parametrize("density", [0.05, 0.4, 0.6, 0.95])
def test_keep_largest_is_the_released_rule(amg: ModuleType, min_area: int, density: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        mask = rng.random((20, 30)) < density
        clean = clean_regions(mask, min_area=min_area, small_masks=KEEP)
        expected, changed = released_rule(amg, mask, min_area)
        assert np.array_equal(clean, expected)
        assert (clean is not mask) == changed


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
