"""Small parts and holes: both rules on hand-made masks; on random ones the released rule, and components of pixels."""

from dataclasses import replace
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sam_core.masks import rle
from sam_core.masks.boxes import tight_boxes
from sam_core.masks.candidates import Candidates, decoded, object_column
from sam_core.masks.regions import clean_candidates
from sam_core.recipes import SmallMaskRule

KEEP, DROP = SmallMaskRule.KEEP_LARGEST, SmallMaskRule.DROP


def encoded(rles: list[bytes], size: tuple[int, int]) -> Candidates:
    """Candidates with these masks; boxes and areas are made up."""
    candidates = decoded(np.zeros((1, 2)), np.zeros((1, len(rles)), np.float32), (0, 0, size[1], size[0]))
    return replace(candidates, rle=object_column(rles), boxes=candidates.boxes + 7, areas=candidates.areas + 7)


def clean(mask: np.ndarray, *, min_area: int, small_masks: SmallMaskRule) -> tuple[np.ndarray, bool]:
    """A mask without small parts and holes, and whether it had any."""
    candidates = encoded([rle.encode(mask)], mask.shape)
    cleaned, changed = clean_candidates(candidates, mask.shape, min_area=min_area, small_masks=small_masks)
    return rle.decode(cleaned.rle[0], mask.shape), bool(changed[0])


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
    assert np.array_equal(clean(before, min_area=5, small_masks=rule)[0], after)


def test_the_threshold_itself_is_large_enough() -> None:
    mask = picture("#####..", ".......", ".......")
    for rule in SmallMaskRule:
        assert not clean(mask, min_area=5, small_masks=rule)[1]


def test_a_mask_of_small_parts_keeps_its_largest_or_nothing() -> None:
    mask = picture("##......", "........", "###....#", "........", "........")
    largest = picture("........", "........", "###.....", "........", "........")
    assert np.array_equal(clean(mask, min_area=5, small_masks=KEEP)[0], largest)
    assert not clean(mask, min_area=5, small_masks=DROP)[0].any()


def test_a_single_small_part_stays_but_counts_as_small(amg: ModuleType) -> None:
    mask = picture("##......", "........", "........")
    assert released_rule(amg, mask, 5)[1]
    same, changed = clean(mask, min_area=5, small_masks=KEEP)
    assert np.array_equal(same, mask)
    assert changed


def test_a_thin_ring_is_filled_first_or_removed_first() -> None:
    ring = picture("......", ".###..", ".#.#..", ".###..", "......")
    disc = picture("......", ".###..", ".###..", ".###..", "......")
    assert np.array_equal(clean(ring, min_area=9, small_masks=KEEP)[0], disc)
    assert not clean(ring, min_area=9, small_masks=DROP)[0].any()


def test_the_foot_of_a_column_does_not_touch_the_head_of_the_next() -> None:
    parts = picture("..#####", ".......", ".......", "##.....")
    one = picture("..#####", ".......", ".......", ".......")
    assert np.array_equal(clean(parts, min_area=5, small_masks=DROP)[0], one)
    holes = picture("###.###", "###.###", "#######", "##.####", "##.####")
    assert clean(holes, min_area=3, small_masks=DROP)[0].all()


def released_rule(amg: ModuleType, mask: np.ndarray, min_area: int) -> tuple[np.ndarray, bool]:
    filled, holes = amg.remove_small_regions(mask, min_area, mode="holes")
    clean, islands = amg.remove_small_regions(filled, min_area, mode="islands")
    return clean, holes or islands


def test_of_equal_parts_the_same_one_stays_as_in_the_whole_image(amg: ModuleType) -> None:
    mask = np.zeros((4, 20), bool)
    mask[2, 3] = mask[3, 1] = True
    assert np.array_equal(clean(mask, min_area=2, small_masks=KEEP)[0], released_rule(amg, mask, 2)[0])


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
    found, found_changed = clean(mask, min_area=area, small_masks=KEEP)
    expected, changed = released_rule(amg, mask, area)
    assert np.array_equal(found, expected)
    assert found_changed == changed


def without_small_components(mask: np.ndarray, min_area: int) -> np.ndarray:
    labels, n = ndimage.label(mask, structure=np.ones((3, 3)))
    large = [i for i in range(1, n + 1) if (labels == i).sum() >= min_area]
    return np.isin(labels, large)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(masks(), AREAS)
def test_drop_is_the_rule_of_the_paper_on_the_whole_image(mask: np.ndarray, area: int) -> None:
    trimmed = without_small_components(mask, area)
    expected = ~without_small_components(~trimmed, area) if trimmed.any() else trimmed
    assert np.array_equal(clean(mask, min_area=area, small_masks=DROP)[0], expected)


def by_pixels(mask: np.ndarray, *, min_area: int, small_masks: SmallMaskRule) -> tuple[np.ndarray, bool]:
    """What `clean` returns, with components that opencv finds in the whole image."""
    if small_masks is KEEP:
        filled = fill_small_holes(mask, min_area)
        found = drop_small_parts(filled, min_area, keep_largest=True)
    else:
        trimmed = drop_small_parts(mask, min_area, keep_largest=False)
        found = fill_small_holes(trimmed, min_area) if trimmed.any() else trimmed
    return found, found is not mask


def fill_small_holes(mask: np.ndarray, min_area: int) -> np.ndarray:
    components, areas = components_of_pixels(~mask)
    small = areas < min_area
    return mask | small[components] if small.any() else mask


def drop_small_parts(mask: np.ndarray, min_area: int, *, keep_largest: bool) -> np.ndarray:
    components, areas = components_of_pixels(mask)
    small = areas < min_area
    if not small.any():
        return mask
    if keep_largest and small[1:].all():
        small[1 + np.argmax(areas[1:])] = False
    return mask & ~small[components]


def components_of_pixels(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels, 0 outside, and the area of each; that of label 0 is beyond any threshold."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = np.iinfo(np.int64).max
    return labels, areas


def assert_as_pixels(masks: list[np.ndarray], *, min_area: int, small_masks: SmallMaskRule) -> int:
    """All masks cleaned in one call, against each by itself; returns how many changed."""
    before = encoded([rle.encode(mask) for mask in masks], masks[0].shape)
    after, changed = clean_candidates(before, masks[0].shape, min_area=min_area, small_masks=small_masks)
    for row, mask in enumerate(masks):
        expected, expected_changed = by_pixels(mask, min_area=min_area, small_masks=small_masks)
        assert after.rle[row] == rle.encode(expected)
        assert changed[row] == expected_changed
        box, area = tight_boxes(torch.from_numpy(expected)[None])[0].tolist(), expected.sum()
        assert after.boxes[row].tolist() == (box if expected_changed else [7, 7, 7, 7])
        assert after.areas[row] == (area if expected_changed else 7)
    return int(changed.sum())


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6), masks(), AREAS, st.sampled_from(SmallMaskRule))
def test_components_of_runs_are_those_of_pixels(
    seeds: list[int], mask: np.ndarray, area: int, rule: SmallMaskRule
) -> None:
    others = [np.random.default_rng(seed).random(mask.shape) < seed % 10 / 9 for seed in seeds]
    assert_as_pixels([mask, *others], min_area=area, small_masks=rule)


@pytest.mark.parametrize("rule", SmallMaskRule)
def test_blobs_with_ragged_borders(rule: SmallMaskRule) -> None:
    """Smooth noise around a centre, as decoders draw things they are not sure of: specks outside and holes inside."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:180, :260]
    masks = []
    for radius in rng.uniform(5, 90, size=60):
        distance = np.hypot(y - rng.uniform(0, 180), x - rng.uniform(0, 260)) / radius
        noise = cv2.GaussianBlur(rng.standard_normal((180, 260)), (0, 0), rng.uniform(0.7, 4))
        masks.append(1 - distance + 2 * noise / noise.std() * np.exp(-distance) > 0)
    assert assert_as_pixels(masks, min_area=40, small_masks=rule) > 30


@pytest.mark.parametrize("rule", SmallMaskRule)
def test_photographs_above_a_level(rule: SmallMaskRule) -> None:
    data = pytest.importorskip("skimage.data")
    for photograph in (data.coins(), data.camera()[::2, ::2]):
        masks = [photograph > level for level in range(0, 256, 15)]
        assert assert_as_pixels([*masks, *(~mask for mask in masks)], min_area=100, small_masks=rule) > 20


def test_runs_without_length_and_runs_of_one_colour_in_a_row() -> None:
    """Counts that no encoder here writes stay as they are where the mask is clean, and mean the same where not."""
    runs = [[4, 0, 0, 6, 0, 2, 8], [2, 2, 0, 0, 0, 1, 15], [0, 0, 20], [9, 0, 11], [0, 20, 0]]
    before = encoded([rle.compress(np.array(each)) for each in runs], (4, 5))
    after, changed = clean_candidates(before, (4, 5), min_area=4, small_masks=DROP)
    assert changed.tolist() == [False, True, False, False, False]
    assert after.rle[[0, 2, 3, 4]].tolist() == before.rle[[0, 2, 3, 4]].tolist()
    assert rle.decompress(after.rle[1]).tolist() == [20]


def test_candidates_are_measured_anew_where_they_changed() -> None:
    masks = [
        picture("###.#", "###..", "....."),
        picture("###..", "###..", "....."),
        picture("#....", ".....", "....#"),
    ]
    candidates = encoded([rle.encode(mask) for mask in masks], (3, 5))
    cleaned, changed = clean_candidates(candidates, (3, 5), min_area=3, small_masks=DROP)
    assert changed.tolist() == [True, False, True]
    assert cleaned.boxes.tolist() == [[0, 0, 2, 1], [7, 7, 7, 7], [0, 0, 0, 0]]
    assert cleaned.areas.tolist() == [6, 7, 0]
    assert cleaned.rle[0] == cleaned.rle[1] == candidates.rle[1]


def test_no_candidates() -> None:
    cleaned, changed = clean_candidates(encoded([], (3, 5)), (3, 5), min_area=3, small_masks=DROP)
    assert len(cleaned) == len(changed) == 0


def test_a_mask_of_another_image_is_refused() -> None:
    candidates = encoded([rle.encode(np.ones((3, 5), bool)), rle.encode(np.ones((3, 4), bool))], (3, 5))
    with pytest.raises(ValueError, match="run lengths of 12 px do not fit a mask of 5x3 px"):
        clean_candidates(candidates, (3, 5), min_area=3, small_masks=DROP)
