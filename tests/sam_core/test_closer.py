"""A closer look against an obvious search, its windows by hand, and what it finds of a coin in a large picture."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from sam_core.answers import answer
from sam_core.closer import LEVEL, look_closer, windows_of
from sam_core.geometry import uncrop
from sam_core.model.checkpoint import load_model
from sam_core.model.sam import Sam
from sam_core.predict import Look, Prompts, look_at
from sam_core.windows import Box, window_around, windows_over

Masks = NDArray[np.bool_]
SIZE = (303, 384)
FIELD, COIN, RADIUS = (1600, 2000), (1177.0, 864.0), 9.5


@pytest.fixture(scope="module")
def sam() -> Sam:
    return load_model("vit_n").sam


@pytest.fixture(scope="module")
def coins() -> NDArray[np.uint8]:
    """Coins of some 40 px on a ground of 384 x 303 px."""
    return np.repeat(data.coins()[:, :, None], 3, 2)


@pytest.fixture(scope="module")
def field(coins: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One coin at half its size, 19 px wide, again and again, some 60 px apart, on a ground of noise."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 90, (*FIELD, 3)).astype(np.uint8)
    small = cv2.resize(coins, (192, 152), interpolation=cv2.INTER_AREA)
    there = np.argwhere(disc())
    colours = small[tuple((there - (int(COIN[1]) - 64, int(COIN[0]) - 77)).T)]
    for place in np.ndindex(24, 24):
        moved = 60 * (np.array(place) - 12)
        if moved.any():
            moved += rng.integers(-20, 21, 2)
        rows, columns = np.clip(there + moved, 0, np.array(FIELD) - 1).T
        ground[rows, columns] = colours
    return ground


def disc() -> Masks:
    """The coin in the field."""
    y, x = np.mgrid[: FIELD[0], : FIELD[1]]
    return np.asarray(np.hypot(x + 0.5 - COIN[0], y + 0.5 - COIN[1]) <= RADIUS)


def click(*places: tuple[float, float], labels: tuple[int, ...] = (1,)) -> Prompts:
    return Prompts(torch.tensor([places]), torch.tensor([labels]))


def mask_through(sam: Sam, look: Look, window: Box, prompts: Prompts) -> tuple[Masks, float]:
    """The most confident mask in the frame of the whole image, and its predicted IoU."""
    best = answer(sam, look(window), prompts).best()
    return uncrop(best.masks()[0, 0].numpy(), best.frame), best.iou.item()


def test_the_most_confident_window_is_chosen(sam: Sam, field: NDArray[np.uint8]) -> None:
    look, chosen = cache(look_at(sam, field)), set()
    for place in (COIN, (1160.0, 850.0), (20.0, 500.0)):
        ranks = {}
        for level, window in enumerate(windows_over(FIELD, place)):
            mask, iou = mask_through(sam, look, window, click(place))
            x0, y0, x1, y1 = window
            rim = np.zeros(FIELD, bool)
            rim[y0:y1, x0:x1] = True
            rim[y0 + (y0 > 0) : y1 - (y1 < FIELD[0]), x0 + (x0 > 0) : x1 - (x1 < FIELD[1])] = False
            if level == 0 or (mask.any() and not (mask & rim).any()):
                ranks[window] = iou - LEVEL * level
        found = look_closer(sam, look, FIELD, click(place))
        assert found.frame.crop_box == max(ranks, key=lambda window: ranks[window])
        expected, iou = mask_through(sam, look, found.frame.crop_box, click(place))
        np.testing.assert_array_equal(uncrop(found.best().masks()[0, 0].numpy(), found.frame), expected)
        assert found.best().iou.item() == iou
        assert found.iou.shape == (1, 3)
        chosen.add(found.frame.crop_box)
    assert len(chosen) > 1, "one window for every place would prove nothing"


def test_a_coin_that_is_lost_among_others_is_found(sam: Sam, field: NDArray[np.uint8]) -> None:
    true = disc()
    look = cache(look_at(sam, field))
    whole, _ = mask_through(sam, look, (0, 0, FIELD[1], FIELD[0]), click(COIN))
    found = look_closer(sam, look, FIELD, click(COIN)).best()
    close = uncrop(found.masks()[0, 0].numpy(), found.frame)
    before, after = ((mask & true).sum() / (mask | true).sum() for mask in (whole, close))
    assert (before < 0.3, after > 0.7) == (True, True), (before, after)


def test_a_box_says_which_window_it_is(sam: Sam, coins: NDArray[np.uint8]) -> None:
    seen: list[Box] = []

    def look(window: Box):  # type: ignore[no-untyped-def]  # as look_at's
        seen.append(window)
        return look_at(sam, coins)(window)

    prompts = Prompts(boxes=torch.tensor([[40.2, 40.0, 70.0, 69.5]]))
    found = look_closer(sam, look, SIZE, prompts)
    assert seen == [window_around(SIZE, (40, 40, 70, 70))] == [found.frame.crop_box]


def test_every_click_lies_in_every_window() -> None:
    size, near, far = (600, 800), (100.0, 100.0), (700.0, 500.0)
    assert windows_of(size, click(near)) == windows_over(size, near)
    assert windows_of(size, click(near, far, labels=(1, 0))) == [(0, 0, 800, 600)]
    # One that fills up the batch is no place.
    assert windows_of(size, click(near, (0.0, 0.0), labels=(1, -1))) == windows_over(size, near)
    two = windows_of(size, click(near, (130.0, 90.0), labels=(1, 1)))
    assert two[0] == (0, 0, 800, 600)
    assert len(two) > 1
    assert all(x0 <= 100 < 130 <= x1 and y0 <= 90 < 100 <= y1 for x0, y0, x1, y1 in two)
    boxed = Prompts(torch.tensor([[far]]), torch.tensor([[0]]), boxes=torch.tensor([[90.0, 90.0, 110.0, 110.0]]))
    assert windows_of(size, boxed) == [(0, 0, 800, 600)]  # the click lies outside of the window of the box


def test_a_prompt_without_a_place_is_refused() -> None:
    for prompts in (
        Prompts(text=torch.ones(1, 4)),
        Prompts(torch.ones(2, 1, 2), torch.ones(2, 1, dtype=torch.int64)),
    ):
        with pytest.raises(ValueError, match="one prompt that has a place"):
            windows_of((10, 10), prompts)
    with pytest.raises(ValueError, match="does not lie in an image of 10x10 px"):
        windows_of((10, 10), Prompts(boxes=torch.tensor([[2.0, 2.0, 11.0, 5.0]])))
    with pytest.raises(ValueError, match="does not lie in an image of 10x10 px"):
        windows_of((10, 10), click((11.0, 3.0)))
