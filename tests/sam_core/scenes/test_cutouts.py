"""Cut-outs of sam_core/scenes/cutouts.py: what counts as a thing, and where it lands."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from sam_core.scenes import CutOut, SceneConfig, cut_out, render_scene
from sam_core.scenes.cutouts import SIDE, warped
from sam_core.scenes.kernels import UInt8
from sam_core.scenes.layers import Canvas
from sam_core.scenes.materials import MaterialShop
from sam_core.scenes.stage import Stage


def test_a_thing_is_cut_to_its_box_and_brought_to_size(mug: tuple[UInt8, UInt8], thing: CutOut) -> None:
    found = thing
    rows, columns = np.nonzero(mug[1] >= 128)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(found.alpha.shape) == SIDE
    assert found.alpha.shape[1] / found.alpha.shape[0] == pytest.approx(width / height, rel=0.01)
    assert (found.alpha >= 128).mean() == pytest.approx((mug[1] >= 128).sum() / (height * width), abs=0.01)
    inside = found.colour[found.alpha == 255].mean(0)
    assert inside == pytest.approx(mug[0][mug[1] == 255].mean(0), abs=2)


def test_the_transparent_colour_does_not_bleed_into_the_edge(mug: tuple[UInt8, UInt8]) -> None:
    alpha = mug[1]
    red = np.where(alpha[..., None] >= 128, np.uint8([200, 0, 0]), np.uint8([0, 0, 255]))
    found = cut_out(red, alpha)
    assert found is not None
    assert found.colour[found.alpha > 20][:, 2].max() <= 1


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("speck", lambda a: cv2.circle(a, (250, 200), 9, 255, -1)),
        ("two things", lambda a: cv2.circle(cv2.circle(a, (100, 200), 70, 255, -1), (350, 200), 60, 255, -1)),
        ("line drawing", lambda a: cv2.ellipse(a, (250, 200), (200, 150), 0, 0, 360, 255, 3)),
        ("whole picture", lambda a: cv2.rectangle(a, (20, 20), (480, 380), 255, -1)),
        ("nothing", lambda a: a),
    ],
)  # fmt: skip
def test_what_is_not_one_solid_thing_is_left_out(mug: tuple[UInt8, UInt8], name: str, draw) -> None:  # type: ignore[no-untyped-def]
    assert cut_out(mug[0], draw(np.zeros((400, 500), np.uint8))) is None, name


@pytest.mark.parametrize("scale", [0.2, 0.8, 1.7])
def test_warping_agrees_with_scipy(thing: CutOut, scale: float) -> None:
    alpha = thing.alpha
    turn = scale * np.array([[0.9, -0.4], [0.4, 0.9]])
    matrix = np.column_stack([turn, [60.0, 20.0]])
    found = warped(alpha, matrix, (300, 280))
    swapped = np.linalg.inv(turn)[::-1, ::-1]  # scipy maps (row, column) back
    smooth = ndimage.gaussian_filter(alpha.astype(float), max(0.0, 0.4 / scale - 0.4))
    wanted = ndimage.affine_transform(smooth, swapped, -swapped @ [20.0, 60.0], output_shape=(280, 300), order=1)
    assert np.mean((found >= 128) != (wanted >= 128)) < 0.003


def test_its_feet_stand_where_those_of_other_objects_do(rng: np.random.Generator, shop: MaterialShop) -> None:
    alpha = np.zeros((200, 100), np.uint8)
    cv2.ellipse(alpha, (50, 100), (49, 99), 0, 0, 360, 255, -1)
    post = cut_out(np.full((200, 100, 3), 200, np.uint8), alpha)
    assert post is not None
    light = np.array([0.0, -0.6, 0.8])
    stage = Stage(SceneConfig(size=256), Canvas.blank(256), shop, light, shadow=0.0, shadow_soft=0.1)
    number = stage.put(rng, post, np.array([128.0, 120.0]), 60)
    rows, columns = np.nonzero(stage.canvas.objects == number)
    assert rows.max() == pytest.approx(180, abs=12)  # stretched by 15 % in the mean
    assert columns.mean() == pytest.approx(128, abs=8)
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(2, rel=0.6)
    assert np.array_equal(stage.canvas.parts > 0, stage.canvas.objects == number)


class Few:
    """Two things and a picture that is none."""

    def __init__(self, things: list[CutOut | None]) -> None:
        self.things = things

    def __len__(self) -> int:
        return len(self.things)

    def __getitem__(self, number: int) -> CutOut | None:
        return self.things[number]


def test_scenes_with_cutouts(thing: CutOut) -> None:
    config = SceneConfig(size=128, cutouts=1.0, kind_weights=(0, 0, 1, 0, 0, 0, 0, 0))
    few = Few([thing, None])
    plain, first, again = (render_scene(config, np.random.default_rng(5), given) for given in (None, few, few))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.objects, again.objects)
    assert not np.array_equal(plain.image, first.image)
    things = ~first.stuff
    parts = np.bincount(first.part_object, minlength=len(things))
    assert things.any()
    assert np.all(parts[things] == 1)  # nothing that is made of several parts is left


def test_a_collection_of_nothing_leaves_made_up_objects() -> None:
    config = SceneConfig(size=128, cutouts=1.0)
    scene = render_scene(config, np.random.default_rng(6), Few([None]))
    assert (~scene.stuff).sum() > 1
