"""Whole scenes of sam_core/scenes/scene.py: reproducible, consistent, of every kind and size."""

import numpy as np
import pytest

from sam_core.scenes import SCENE_KINDS, Scene, SceneConfig, render_scene


def _only(kind: str, size: int) -> SceneConfig:
    return SceneConfig(size=size, kind_weights=tuple(float(k == kind) for k in SCENE_KINDS))


def _check(scene: Scene, config: SceneConfig) -> None:
    size = config.size
    assert (scene.image.shape, scene.image.dtype) == ((size, size, 3), np.uint8)
    for labels in (scene.objects, scene.parts):
        assert (labels.shape, labels.dtype) == ((size, size), np.int16)
    count, part_count = len(scene.stuff), len(scene.part_object)
    areas = np.bincount(scene.objects.ravel(), minlength=count)
    part_areas = np.bincount(scene.parts.ravel(), minlength=part_count)
    assert len(areas) == count == len(scene.object_group)
    assert len(part_areas) == part_count
    assert areas[1:].min(initial=size * size) >= config.smallest_label
    assert part_areas[1:].min(initial=size * size) >= config.smallest_label
    on_part = scene.parts > 0
    assert np.array_equal(scene.part_object[scene.parts][on_part], scene.objects[on_part])
    assert scene.part_object[0] == 0
    assert (scene.part_object.dtype, scene.object_group.dtype, scene.stuff.dtype) == (np.int16, np.int16, np.bool_)


@pytest.mark.parametrize("size", [128, 256, 512])
@pytest.mark.parametrize("kind", SCENE_KINDS)
def test_every_kind_renders_at_every_size(kind: str, size: int) -> None:
    config = _only(kind, size)
    rng = np.random.default_rng(size)
    scenes = [render_scene(config, rng) for _ in range(3)]
    for scene in scenes:
        _check(scene, config)
    assert max(len(scene.stuff) for scene in scenes) > 2


def test_a_seed_gives_one_scene_and_another_seed_another() -> None:
    config = SceneConfig(size=128)
    first, again, other = (render_scene(config, np.random.default_rng(seed)) for seed in (5, 5, 6))
    for name in ("image", "objects", "parts", "part_object", "stuff", "object_group"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.image, other.image)


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    config = SceneConfig(size=96)
    scenes = [render_scene(config, np.random.default_rng(seed)) for seed in range(200)]
    for scene in scenes:
        _check(scene, config)
    return scenes


def test_sizes_reach_from_specks_to_half_the_frame(many: list[Scene]) -> None:
    shares = [np.bincount(s.objects.ravel(), minlength=len(s.stuff))[1:][~s.stuff[1:]] / s.objects.size for s in many]
    assert np.quantile(np.concatenate(shares), 0.1) < 0.003
    assert max(share.max(initial=0) for share in shares) > 0.4
    # Hundreds of cells in a few pictures outnumber everything else.
    things = np.concatenate([share for scene, share in zip(many, shares, strict=True) if scene.kind != "microscopy"])
    assert 0.1 < (things > 0.05).mean() < 0.5


def test_pictures_vary_in_light_colour_and_content(many: list[Scene]) -> None:
    light = np.array([s.image.mean() for s in many])
    assert light.std() > 20
    assert 60 < np.median(light) < 170
    grey = np.array([np.ptp(s.image.astype(int), axis=2).max() == 0 for s in many])
    assert 0.04 < grey.mean() < 0.4
    assert np.ptp([len(s.stuff) for s in many]) > 20


def test_pictures_have_edges_where_labels_change(many: list[Scene]) -> None:
    ratios = []
    for scene in many:
        grey = scene.image.mean(2)
        step, change = np.abs(np.diff(grey, axis=1)), np.diff(scene.objects, axis=1) != 0
        if change.sum() > 50:
            ratios.append(step[change].mean() / (step[~change].mean() + 1e-6))
    assert np.median(ratios) > 2
