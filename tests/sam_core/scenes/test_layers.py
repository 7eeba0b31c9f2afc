"""Drawing and labelling of sam_core/scenes/layers.py against geometry."""

import numpy as np
import pytest
from scipy import ndimage

from sam_core.scenes import shapes
from sam_core.scenes.layers import Canvas, Part, cast_shadow, land, placed, render_layer, stamp
from sam_core.scenes.materials import MaterialShop

_LIGHT = np.array([0.0, -0.6, 0.8])


def test_labels_follow_the_outline_within_a_pixel(rng: np.random.Generator, shop: MaterialShop) -> None:
    layer = render_layer([Part((shapes.ellipse(30, 20, centre=(60.3, 50.7), tilt=0.4),), shop.plain(rng))], 128, _LIGHT)
    assert layer is not None
    canvas = Canvas.blank(128)
    assert land(canvas, layer) == 1
    y, x = np.mgrid[:128, :128]
    unit = np.stack([x - 60.3, y - 50.7], -1) @ shapes.turn_matrix(-0.4) / (30, 20)
    inside = np.hypot(*np.moveaxis(unit, -1, 0)) <= 1
    got = canvas.objects == 1
    assert not (got & ~ndimage.binary_dilation(inside, np.ones((3, 3)))).any()
    assert not (ndimage.binary_erosion(inside, np.ones((3, 3))) & ~got).any()
    assert np.array_equal(got, canvas.parts == 1)


def test_the_pictures_edge_lies_where_the_label_changes(rng: np.random.Generator, shop: MaterialShop) -> None:
    white = shop.plain(rng, np.ones(3))
    layer = render_layer([Part((shapes.ellipse(25, 25, centre=(64, 64)),), white)], 128, _LIGHT)
    assert layer is not None
    canvas = Canvas.blank(128)
    land(canvas, layer)
    bright = canvas.colour.mean(2) > 0.5 * canvas.colour[60:68, 60:68].mean()
    assert (bright != (canvas.objects == 1)).sum() <= 0.05 * 2 * np.pi * 25


def test_a_second_contour_is_a_hole_and_a_stroke_has_its_width(rng: np.random.Generator, shop: MaterialShop) -> None:
    material = shop.any(rng)
    ring = shapes.ellipse(20, 20, centre=(40, 40)), shapes.ellipse(10, 10, centre=(40, 40))
    layer = render_layer([Part(ring, material)], 128, _LIGHT)
    assert layer is not None
    assert layer.alpha[40 - layer.origin[1], 40 - layer.origin[0]] == 0
    rope = render_layer([Part((np.array([[10.0, 64], [110, 64]]),), material, stroke=6)], 128, _LIGHT)
    assert rope is not None
    assert rope.alpha[:, 50].sum() == pytest.approx(6, abs=1.5)


def test_objects_cover_each_other_in_the_order_they_land(rng: np.random.Generator, shop: MaterialShop) -> None:
    canvas = Canvas.blank(64)
    for x in (20.0, 30.0):
        parts = [Part((shapes.ellipse(12, 12, centre=(x, 30)),), shop.any(rng)) for _ in range(2)]
        layer = render_layer(parts, 64, _LIGHT)
        assert layer is not None
        land(canvas, layer, group=5)
    assert canvas.objects[30, 25] == 2
    assert canvas.objects[30, 12] == 1
    assert canvas.part_object == [0, 1, 1, 2, 2]
    assert canvas.group == [0, 5, 5]


def test_what_misses_the_canvas_is_nothing(rng: np.random.Generator, shop: MaterialShop) -> None:
    far = [Part((shapes.ellipse(5, 5, centre=(500, -300)),), shop.any(rng))]
    assert render_layer(far, 64, _LIGHT) is None
    canvas = Canvas.blank(64)
    stamp(canvas, far, _LIGHT, object_id=canvas.new_object(stuff=True))
    assert not canvas.objects.any()


def test_stamp_labels_the_object_alone(rng: np.random.Generator, shop: MaterialShop) -> None:
    canvas = Canvas.blank(64)
    number = canvas.new_object(stuff=True)
    stamp(
        canvas, [Part((shapes.box(-5, -5, 70, 70),), shop.any(rng))], _LIGHT, object_id=number, tilt=np.full(2, 0.001)
    )
    assert (canvas.objects == number).all()
    assert not canvas.parts.any()
    assert (canvas.colour > 0).all()


def test_blur_keeps_the_outline_in_place(rng: np.random.Generator, shop: MaterialShop) -> None:
    part = [Part((shapes.box(20, 20, 60, 60),), shop.plain(rng))]
    sharp, soft = render_layer(part, 96, _LIGHT), render_layer(part, 96, _LIGHT, blur=3)
    assert sharp is not None
    assert soft is not None
    maps = []
    for layer in (sharp, soft):
        canvas = Canvas.blank(96)
        land(canvas, layer)
        maps.append(canvas.objects > 0)
    assert (maps[0] != maps[1]).sum() < 40


def test_placed_scales_strokes_too(rng: np.random.Generator, shop: MaterialShop) -> None:
    (part,) = placed([Part((np.array([[0.0, 1.0]]),), shop.any(rng), stroke=0.1)], 10 * np.eye(2), np.array([5.0, 6.0]))
    assert part.contours[0].tolist() == [[5, 16]]
    assert part.stroke == pytest.approx(1)


def test_a_shadow_falls_where_its_warp_says(rng: np.random.Generator, shop: MaterialShop) -> None:
    canvas = Canvas.blank(96)
    canvas.colour[:] = 1
    layer = render_layer([Part((shapes.box(20, 20, 40, 40),), shop.any(rng))], 96, _LIGHT)
    assert layer is not None
    cast_shadow(canvas, layer, np.array([[1.0, 0, 30], [0, 1, 25]]), softness=1, strength=0.5)
    assert canvas.colour[55, 60, 0] == pytest.approx(0.5, abs=0.01)
    assert canvas.colour[30, 30, 0] == 1
