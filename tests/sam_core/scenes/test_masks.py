"""The mask index of sam_core/scenes/masks.py on a scene made by hand."""

import numpy as np
import pytest

from sam_core.scenes import MaskKind, Scene, SceneConfig, render_scene, scene_masks


@pytest.fixture
def scene() -> Scene:
    """Stuff 1 everywhere, object 2 of parts 1 and 2, object 3 nearly all part 3, both of group 1."""
    objects, parts = np.full((10, 10), 1, np.int16), np.zeros((10, 10), np.int16)
    objects[0:4, 0:5], parts[0:4, 0:2], parts[0:4, 2:5] = 2, 1, 2
    objects[6:9, 6:9], parts[6:9, 6:9] = 3, 3
    return Scene(
        image=np.zeros((10, 10, 3), np.uint8),
        objects=objects,
        parts=parts,
        part_object=np.array([0, 2, 2, 3], np.int16),
        stuff=np.array([True, True, False, False]),
        object_group=np.array([0, 0, 1, 1], np.int16),
        kind="pile",
    )


def test_every_mask_once_with_its_area(scene: Scene) -> None:
    masks = scene_masks(scene)
    rows = set(zip(masks.kinds.tolist(), masks.ids.tolist(), masks.areas.tolist(), strict=True))
    assert rows == {
        (MaskKind.OBJECT, 2, 20),
        (MaskKind.OBJECT, 3, 9),
        (MaskKind.PART, 1, 8),
        (MaskKind.PART, 2, 12),
        (MaskKind.GROUP, 1, 29),
        (MaskKind.STUFF, 1, 71),
    }
    assert masks.pixels().sum((1, 2)).tolist() == masks.areas.tolist()


def test_small_masks_are_left_out(scene: Scene) -> None:
    assert sorted(scene_masks(scene, min_area=20).areas.tolist()) == [20, 29, 71]


def test_pixels_of_chosen_rows(scene: Scene) -> None:
    masks = scene_masks(scene)
    chosen = np.array([3, 0])
    assert np.array_equal(masks.pixels(chosen), masks.pixels()[[3, 0]])
    assert masks.pixels(np.array([], int)).shape == (0, 10, 10)


def test_real_scenes_agree_with_their_maps() -> None:
    scene = render_scene(SceneConfig(size=128), np.random.default_rng(3))
    masks = scene_masks(scene, 10)
    assert masks.pixels().sum((1, 2)).tolist() == masks.areas.tolist()
    assert masks.areas.min() >= 10
