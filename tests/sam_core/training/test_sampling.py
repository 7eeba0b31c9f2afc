"""Masks of a scene: each is drawn once, whatever its objects are made of."""

from dataclasses import replace

import numpy as np
import pytest

from sam_core.scenes import SCENE_KINDS, CutOut, Scene, SceneConfig, render_scene
from sam_core.training.nano_presets import nano_things
from sam_core.training.sampling import MaskChoice, scene_batch, scene_config, scene_sample

CONFIG = replace(nano_things()[0], image_size=96, masks_per_image=64, min_area=20)


class Discs:
    """Things of one part."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, number: int) -> CutOut:
        y, x = np.indices((60, 50 + number))
        colour = np.dstack([x * 3, y * 2, x + y]).astype(np.uint8)
        inside = np.hypot((x - x.mean()) / x.mean(), (y - y.mean()) / y.mean()) < 0.95
        return CutOut(colour, (inside * 255).astype(np.uint8))


def test_an_object_of_one_part_is_one_mask() -> None:
    for number in range(12):
        masks = scene_sample(CONFIG, np.random.default_rng([1, number]), number=number, cutouts=Discs()).masks.numpy()
        flat = masks.reshape(len(masks), CONFIG.image_size**2).astype(np.int64)
        shared = flat @ flat.T
        areas = np.diag(shared)
        iou = shared / np.maximum(areas[:, None] + areas - shared, 1)
        assert (np.triu(iou, 1) < 0.95).all()


def test_masks_are_neither_too_small_nor_nearly_all() -> None:
    config, areas = replace(CONFIG, min_area=200, max_mask_share=0.2), []
    for number in range(12):
        made = scene_sample(config, np.random.default_rng([2, number]), number=number)
        height, width = made.sizes[0].tolist()
        areas += [(area, area / (height * width)) for area in made.masks.sum((1, 2)).tolist()]
    assert len(areas) > 24
    assert min(area for area, _ in areas) >= 200
    assert max(share for _, share in areas) <= 0.2


def test_cells_may_be_smaller_than_masks_of_other_scenes() -> None:
    config = replace(CONFIG, image_size=384, min_area=900, microscopy=0.5, cell_area=9)
    small = [False, False]
    for number in range(12):
        made = scene_sample(config, np.random.default_rng([3, number]), number=number)
        kind = render_scene(scene_config(config), np.random.default_rng([3, number])).kind
        least = min(made.masks.sum((1, 2)).tolist(), default=900)
        small[kind == "microscopy"] |= least < 900
    assert small == [False, True]


def test_ground_and_parts_are_drawn_less_often_than_things() -> None:
    """A thing, a region of the ground, and a part of the thing of half its size."""
    objects, parts = np.zeros((2, 20, 20), np.int16)
    objects[:10], objects[10:], parts[:5] = 1, 2, 1
    scene = Scene(
        np.zeros((20, 20, 3), np.uint8),
        objects,
        parts,
        part_object=np.array([0, 1], np.int16),
        stuff=np.array([True, False, True]),
        object_group=np.zeros(3, np.int16),
        kind="outdoor",
    )
    choice = MaskChoice(1, min_area=1, area_power=1.0, part_weight=0.5, stuff_weight=0.25, padded_share=0.0)
    rng = np.random.default_rng(0)
    drawn = [scene_batch(scene, choice, rng).masks[0].numpy() for _ in range(600)]
    shares = [
        np.mean([np.array_equal(mask, each) for mask in drawn]) for each in (objects == 1, objects == 2, parts == 1)
    ]
    np.testing.assert_allclose(shares, np.array([200, 50, 50]) / 300, atol=0.06)


def test_the_share_of_microscopy_leaves_the_other_kinds_as_they_are() -> None:
    usual, many = (scene_config(replace(CONFIG, microscopy=share), 7) for share in (None, 0.6))
    micro = np.array([kind == "microscopy" for kind in SCENE_KINDS])
    plain, raised = (np.array(config.kind_weights) / sum(config.kind_weights) for config in (usual, many))
    assert usual == SceneConfig(size=96, bank_seed=7)
    assert raised[micro] == pytest.approx([0.6])
    np.testing.assert_allclose(raised[~micro] / raised[~micro].sum(), plain[~micro] / plain[~micro].sum(), rtol=1e-12)
    assert (many.size, many.bank_seed) == (96, 7)
