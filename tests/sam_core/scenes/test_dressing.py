"""What cut-outs are dressed in: sam_core/scenes/dressing.py."""

import cv2
import numpy as np

from sam_core.scenes import CutOut
from sam_core.scenes.dressing import dressed, segments, without_lines
from sam_core.scenes.materials import MaterialShop


def test_segments_take_the_nearest_colour(rng: np.random.Generator, thing: CutOut) -> None:
    colour = thing.colour[:40, :60]
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


def test_a_dress_covers_every_pixel_once(rng: np.random.Generator, thing: CutOut, shop: MaterialShop) -> None:
    dresses = [dressed(rng, thing, shop) for _ in range(30)]
    printed = [dress for dress in dresses if dress.print is not None]
    assert 3 <= len(printed) <= 15
    assert all(len(dress.materials) == 1 for dress in printed)
    for dress in dresses:
        assert dress.labels.max() < len(dress.materials)
        covered = sum(dress.share(number).astype(int) for number in range(len(dress.materials)))
        assert np.all(covered == 255)
