"""Each rule on single masks: what it rejects, where its border lies, and which rule speaks first."""

from dataclasses import replace

import numpy as np

from sam_core.geometry import Frame, frame_of
from sam_core.masks.batch import Reason
from sam_core.masks.candidates import KEPT, Candidates, Measures, decoded
from sam_core.masks.select import judge_measures, judge_predicted_iou
from sam_core.recipes import Recipe, reference

WHOLE = frame_of((100, 200), image_size=64)
LEFT_HALF = frame_of((100, 200), image_size=64, crop_box=(0, 0, 100, 100))
GOOD_BOX = (30, 30, 60, 60)


def trusted(*predicted_iou: float) -> Candidates:
    return decoded(np.zeros((1, 2)), np.array([predicted_iou], np.float32), (0, 0, 200, 100))


def measured(*rows: tuple[float, int, tuple[int, int, int, int]]) -> Candidates:
    """One candidate per row of stability score, area and box."""
    stability, areas, boxes = zip(*rows, strict=True)
    measures = Measures(np.array(stability, np.float32), np.array(areas), np.array(boxes), np.full(len(rows), None))
    return trusted(*[0.9] * len(rows)).measured(measures)


def verdicts(candidates: Candidates, *, frame: Frame = WHOLE, recipe: Recipe | None = None) -> list[str]:
    codes = judge_measures(candidates, frame, recipe or reference())
    return ["kept" if code == KEPT else list(Reason)[code].value for code in codes]


def test_predicted_iou_must_exceed_its_threshold() -> None:
    candidates = trusted(0.87, 0.88, np.nextafter(np.float32(0.88), np.float32(1)), 1.02, np.nan)
    assert judge_predicted_iou(candidates, reference()).tolist() == [Reason.IOU.code] * 2 + [KEPT] * 2 + [0]


def test_predicted_iou_threshold_zero_keeps_everything() -> None:
    recipe = replace(reference(), min_predicted_iou=0.0)
    assert judge_predicted_iou(trusted(-0.5, 0.0, 0.5), recipe).tolist() == [KEPT] * 3


def test_stability_must_reach_its_threshold() -> None:
    candidates = measured((0.95, 900, GOOD_BOX), (0.9499, 900, GOOD_BOX), (0.0, 900, GOOD_BOX))
    assert verdicts(candidates) == ["kept", "stability", "stability"]


def test_box_at_a_crop_border_inside_the_image() -> None:
    candidates = measured((1.0, 900, (30, 30, 79, 60)), (1.0, 900, (30, 30, 80, 60)), (1.0, 900, (0, 0, 60, 99)))
    assert verdicts(candidates, frame=LEFT_HALF) == ["kept", "box_at_crop_edge", "kept"]
    assert verdicts(candidates, frame=WHOLE) == ["kept", "kept", "kept"]


def test_tolerance_of_the_crop_border_is_part_of_the_recipe() -> None:
    candidates = measured((1.0, 900, (30, 30, 80, 60)))
    assert verdicts(candidates, frame=LEFT_HALF, recipe=Recipe(crop_edge_tolerance=19)) == ["kept"]


def test_masks_of_almost_the_whole_image() -> None:
    candidates = measured((1.0, 18_999, GOOD_BOX), (1.0, 19_000, GOOD_BOX), (1.0, 20_000, GOOD_BOX))
    assert verdicts(candidates, recipe=Recipe(full_image_fraction=0.95)) == ["kept", "area", "area"]
    assert verdicts(candidates, recipe=reference()) == ["kept", "kept", "kept"]


def test_area_is_compared_with_the_image_and_not_with_the_crop() -> None:
    candidates = measured((1.0, 9_999, GOOD_BOX))
    assert verdicts(candidates, frame=LEFT_HALF, recipe=Recipe(full_image_fraction=0.95)) == ["kept"]


def test_an_empty_mask_is_never_kept() -> None:
    candidates = measured((0.0, 0, (0, 0, 0, 0)))
    assert verdicts(candidates) == ["stability"]
    assert verdicts(candidates, recipe=Recipe(min_stability_score=0.0)) == ["area"]


def test_the_first_rule_that_rejects_is_the_reason() -> None:
    candidates = measured((0.5, 20_000, (30, 30, 90, 60)), (1.0, 20_000, (30, 30, 90, 60)))
    recipe = Recipe(full_image_fraction=0.95)
    assert verdicts(candidates, frame=LEFT_HALF, recipe=recipe) == ["stability", "box_at_crop_edge"]
