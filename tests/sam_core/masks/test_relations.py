"""Relations are those that a loop over bitmaps finds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sam_core.masks import relations
from sam_core.masks.relations import NONE, Relations, relate
from sam_core.masks.rle import encode

Bitmaps = list[NDArray[np.bool_]]


def related(masks: Bitmaps, *, containment: float = 0.9, duplicate_iou: float = 0.9) -> Relations:
    areas = np.array([mask.sum() for mask in masks], np.int64)
    size = masks[0].shape if masks else (4, 4)
    return relate(
        [encode(mask) for mask in masks],
        areas,
        (size[0], size[1]),
        containment=containment,
        duplicate_iou=duplicate_iou,
    )


def box(y: int, x: int, h: int, w: int) -> NDArray[np.bool_]:
    mask = np.zeros((40, 60), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def test_a_wheel_of_a_car_in_a_street() -> None:
    street, car, wheel, sky = box(10, 0, 30, 60), box(15, 5, 20, 40), box(30, 8, 4, 4), box(0, 0, 9, 60)
    found = related([wheel, car, street, sky])
    assert found.parent.tolist() == [1, 2, NONE, NONE]
    assert found.whole.tolist() == [2, 2, NONE, NONE]
    assert found.depth.tolist() == [2, 1, 0, 0]
    assert found.parts.tolist() == [0, 1, 1, 0]
    assert found.inside[:2].tolist() == [1, 1]
    assert np.isnan(found.inside[2:]).all()
    assert (found.duplicate_of == NONE).all()


def test_the_better_of_two_copies_is_kept_and_has_the_parts() -> None:
    thing, copy, part = box(0, 0, 20, 20), box(0, 0, 20, 21), box(5, 5, 4, 4)
    found = related([thing, part, copy])
    assert found.duplicate_of.tolist() == [NONE, NONE, 0]
    assert found.duplicate_iou[2] == 400 / 420
    assert found.parent.tolist() == [NONE, 0, NONE]
    assert related([copy, part, thing]).duplicate_of.tolist() == [NONE, NONE, 0]


def test_chains_of_copies_end_at_one_that_is_kept() -> None:
    found = related([box(0, 0, 10, 20), box(0, 1, 10, 20), box(0, 2, 10, 20)], duplicate_iou=0.88)
    assert found.duplicate_of.tolist() == [NONE, 0, NONE]  # the third is like the second alone, as in NMS


@pytest.mark.parametrize("at_once", [7, 1000])
def test_a_loop_over_bitmaps_agrees(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many masks are compared at a time: what all of 20,000 have in common does not fit into memory."""
    compare, rows = relations.coco_mask.iou, list[int]()

    def spied(some: list[object], masks: list[object], crowds: list[int]) -> NDArray[np.float64]:
        rows.append(len(some))
        return np.asarray(compare(some, masks, crowds))

    monkeypatch.setattr(relations.coco_mask, "iou", spied)
    monkeypatch.setattr(relations, "_MASKS_AT_ONCE", at_once, raising=False)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :60]
    masks = [
        np.hypot(y - rng.uniform(0, 40), x - rng.uniform(0, 60)) <= radius for radius in rng.uniform(1.5, 30, size=60)
    ]
    masks = [mask for mask in masks if mask.any()]
    found = related(masks, containment=0.8, duplicate_iou=0.7)
    assert max(rows) <= at_once
    kept: list[int] = []
    for number, mask in enumerate(masks):
        iou = [(mask & other).sum() / (mask | other).sum() for other in masks]
        copies = [other for other in kept if iou[other] >= 0.7]
        assert found.duplicate_of[number] == (copies[0] if copies else NONE)
        kept += [] if copies else [number]
    for number, mask in enumerate(masks):
        above = [
            other
            for other in kept
            if masks[other].sum() > mask.sum()
            and (mask & masks[other]).sum() / mask.sum() >= 0.8
            and (mask & masks[other]).sum() / (mask | masks[other]).sum() < 0.7
        ]
        by_area = sorted(above, key=lambda other: (masks[other].sum(), other))
        assert found.parent[number] == (by_area[0] if above else NONE)
        if above:
            assert masks[found.whole[number]].sum() == masks[by_area[-1]].sum()
            assert found.depth[number] == found.depth[by_area[0]] + 1
            assert found.inside[number] == pytest.approx((mask & masks[by_area[0]]).sum() / mask.sum(), abs=1e-12)


def test_no_masks_have_no_relations() -> None:
    assert len(related([])) == 0


def test_refusals() -> None:
    for values in ({"containment": 0.5}, {"duplicate_iou": 1.1}, {"containment": float("nan")}):
        with pytest.raises(ValueError, match=r"must be above 0\.5, at most 1"):
            related([box(0, 0, 2, 2)], **values)
    with pytest.raises(ValueError, match="1 masks with 0 areas"):
        relate([b"0"], np.zeros(0, np.int64), (1, 1), containment=0.9, duplicate_iou=0.9)


@pytest.mark.parametrize("counts", [b"11", b"ooo", b"\xff", encode(np.zeros((40, 61), bool))])
def test_counts_of_another_size_never_reach_pycocotools(counts: bytes) -> None:
    """It would compare them for ever, or read and write behind them."""
    with pytest.raises(ValueError, match="run lengths"):
        relate([encode(box(0, 0, 9, 9)), counts], np.array([81, 81]), (40, 60), containment=0.9, duplicate_iou=0.9)
