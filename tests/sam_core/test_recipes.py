"""Recipes: the released defaults, the paper's stage 3, and refusals in one line."""

import dataclasses
import inspect
import json
from dataclasses import replace

import pytest

from sam_core.recipes import (
    RECIPES,
    Recipe,
    SmallMaskRule,
    recipe,
    recommended_recipe,
    reference,
    sa1b,
    stored_recipe,
)
from tests.released import import_released


def test_reference_has_the_released_defaults() -> None:
    import_released()
    from segment_anything import SamAutomaticMaskGenerator

    released = {name: p.default for name, p in inspect.signature(SamAutomaticMaskGenerator).parameters.items()}
    ours = reference()
    assert ours.points_per_side == released["points_per_side"]
    assert ours.min_predicted_iou == released["pred_iou_thresh"]
    assert ours.min_stability_score == released["stability_score_thresh"]
    assert ours.stability_offset == released["stability_score_offset"]
    assert ours.nms_iou == released["box_nms_thresh"]
    assert ours.crop_layers == released["crop_n_layers"]
    assert ours.crop_nms_iou == released["crop_nms_thresh"]
    assert ours.crop_overlap == released["crop_overlap_ratio"]
    assert ours.crop_points_downscale == released["crop_n_points_downscale_factor"]
    assert ours.min_region_area == released["min_mask_region_area"]


def test_sa1b_is_stage_three_of_the_paper() -> None:
    ours = sa1b()
    prompts = [4**layer * ours.points_in_layer(layer) ** 2 for layer in range(ours.crop_layers + 1)]
    assert prompts == [1024, 4 * 256, 16 * 64]
    assert (ours.min_predicted_iou, ours.min_stability_score, ours.full_image_fraction) == (0.88, 0.95, 0.95)
    assert (ours.nms_iou, ours.crop_nms_iou) == (0.7, 0.7)
    assert (ours.min_region_area, ours.small_masks) == (100, SmallMaskRule.DROP)


@pytest.mark.parametrize("name", RECIPES)
def test_every_name_gives_a_recipe(name: str) -> None:
    assert recipe(name) == RECIPES[name]()


@pytest.mark.parametrize(("wrong", "hint"), [("sa1-b", "did you mean 'sa1b'"), ("zzz", "known are reference")])
def test_unknown_name_suggests(wrong: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        recipe(wrong)


def test_json_is_canonical_and_tells_recipes_apart() -> None:
    texts = {RECIPES[name]().to_json() for name in RECIPES}
    assert len(texts) == len(RECIPES)
    assert json.loads(sa1b().to_json())["small_masks"] == "drop"
    assert Recipe(nms_iou=0.7).to_json() == reference().to_json()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("points_per_side", 0),
        ("points_per_side", 1025),
        ("crop_layers", -1),
        ("crop_layers", 7),
        ("crop_points_downscale", 0),
        ("crop_overlap", 1.5),
        ("min_predicted_iou", 88.0),
        ("min_stability_score", float("nan")),
        ("stability_offset", 0.0),
        ("crop_edge_tolerance", -1),
        ("full_image_fraction", 95.0),
        ("nms_iou", -0.1),
        ("crop_nms_iou", 1.1),
        ("min_region_area", -1),
        ("small_masks", "drop"),
    ],
)
def test_refuses_values_out_of_range(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"recipe: {field} is "):
        dataclasses.replace(reference(), **{field: value})


def test_refuses_grids_that_shrink_to_nothing() -> None:
    with pytest.raises(ValueError, match="every crop keeps a point"):
        Recipe(points_per_side=3, crop_layers=2, crop_points_downscale=2)


def test_the_model_in_the_box_gets_the_recipe_for_small_models() -> None:
    assert recommended_recipe("vit_n") == recommended_recipe("vit_n_stage3") == "draft"
    assert recommended_recipe("vit_h") == "reference"


@pytest.mark.parametrize("name", RECIPES)
def test_a_stored_recipe_is_the_same(name: str) -> None:
    stored = json.loads(recipe(name).to_json())
    assert stored_recipe(stored) == recipe(name)
    del stored["nms_iou"]  # as in a record from before there was such a value
    assert stored_recipe(stored) == replace(recipe(name), nms_iou=Recipe().nms_iou)
    with pytest.raises(ValueError, match="no recipe has digest, kind"):
        stored_recipe({"kind": "coco", "digest": "x"})
