"""Cut-outs of sam_core/scenes/cutouts.py: what counts as a thing, what it is dressed in, where it lands."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from sam_core.scenes import CutOut, SceneConfig, cut_out, render_scene
from sam_core.scenes.cutouts import SIDE, dressed, segments, warped, without_lines
from sam_core.scenes.layers import Canvas
from sam_core.scenes.materials import MaterialShop
from sam_core.scenes.stage import Stage

Image = np.ndarray


@pytest.fixture(scope="module")
def mug() -> tuple[Image, Image]:
    """A part of a photograph in the shape of a disc with a handle: RGB [400, 500, 3] and opacity [400, 500]."""
    alpha = np.zeros((400, 500), np.uint8)
    cv2.circle(alpha, (220, 200), 150, 255, -1)
    cv2.circle(alpha, (380, 200), 60, 255, 25)
    return data.coffee()[:400, :500].copy(), alpha


def thing(mug: tuple[Image, Image]) -> CutOut:
    found = cut_out(*mug)
    assert found is not None
    return found


def test_a_thing_is_cut_to_its_box_and_brought_to_size(mug: tuple[Image, Image]) -> None:
    found = thing(mug)
    rows, columns = np.nonzero(mug[1] >= 128)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(found.alpha.shape) == SIDE
    assert found.alpha.shape[1] / found.alpha.shape[0] == pytest.approx(width / height, rel=0.01)
    assert (found.alpha >= 128).mean() == pytest.approx((mug[1] >= 128).sum() / (height * width), abs=0.01)
    inside = found.colour[found.alpha == 255].mean(0)
    assert inside == pytest.approx(mug[0][mug[1] == 255].mean(0), abs=2)


def test_the_transparent_colour_does_not_bleed_into_the_edge(mug: tuple[Image, Image]) -> None:
    alpha = mug[1]
    red = np.where(alpha[..., None] >= 128, np.uint8([200, 0, 0]), np.uint8([0, 0, 255]))
    found = thing((red, alpha))
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
def test_what_is_not_one_solid_thing_is_left_out(mug: tuple[Image, Image], name: str, draw) -> None:  # type: ignore[no-untyped-def]
    assert cut_out(mug[0], draw(np.zeros((400, 500), np.uint8))) is None, name


def test_segments_take_the_nearest_colour(rng: np.random.Generator, mug: tuple[Image, Image]) -> None:
    colour = thing(mug).colour[:40, :60]
    labels, colours = segments(rng, colour, 4)
    distances = ((colour[:, :, None].astype(float) - 255 * colours) ** 2).sum(-1)
    chosen = np.take_along_axis(distances, labels[..., None].astype(int), -1)[..., 0]
    assert np.all(chosen <= distances.min(-1) + 1e-2)
    assert colours.shape == (4, 3)


def test_dark_lines_are_painted_over_by_what_is_beside_them() -> None:
    colour = np.full((120, 120, 3), 255, np.uint8)
    cv2.circle(colour, (60, 60), 50, (220, 40, 40), -1)
    cv2.circle(colour, (60, 60), 50, (0, 0, 0), 4)
    cv2.line(colour, (30, 60), (90, 60), (0, 0, 0), 3)
    alpha = np.zeros((120, 120), np.uint8)
    cv2.circle(alpha, (60, 60), 51, 255, -1)
    plain = without_lines(CutOut(colour, alpha), 9)
    assert (colour[alpha >= 128].max(-1) < 60).any()
    inside = np.hypot(*(np.indices((120, 120)) - 60)) < 44
    assert np.all(plain[inside] == (220, 40, 40))


def test_a_thing_of_one_dark_colour_stays() -> None:
    alpha = np.zeros((80, 80), np.uint8)
    cv2.circle(alpha, (40, 40), 30, 255, -1)
    night = CutOut(np.zeros((80, 80, 3), np.uint8), alpha)
    assert np.all(without_lines(night, 7)[alpha >= 128] == 0)


@pytest.mark.parametrize("scale", [0.2, 0.8, 1.7])
def test_warping_agrees_with_scipy(mug: tuple[Image, Image], scale: float) -> None:
    alpha = thing(mug).alpha
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


def test_a_dress_covers_every_pixel_once(
    rng: np.random.Generator, mug: tuple[Image, Image], shop: MaterialShop
) -> None:
    dresses = [dressed(rng, thing(mug), shop) for _ in range(30)]
    printed = [dress for dress in dresses if dress.print is not None]
    assert 3 <= len(printed) <= 15
    assert all(len(dress.materials) == 1 for dress in printed)
    for dress in dresses:
        assert dress.labels.max() < len(dress.materials)
        covered = sum(dress.share(number).astype(int) for number in range(len(dress.materials)))
        assert np.all(covered == 255)


class Few:
    """Two things and a picture that is none."""

    def __init__(self, things: list[CutOut | None]) -> None:
        self.things = things

    def __len__(self) -> int:
        return len(self.things)

    def __getitem__(self, number: int) -> CutOut | None:
        return self.things[number]


def test_scenes_with_cutouts(mug: tuple[Image, Image]) -> None:
    config = SceneConfig(size=128, cutouts=1.0, kind_weights=(0, 0, 1, 0, 0, 0, 0, 0))
    few = Few([thing(mug), None])
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
