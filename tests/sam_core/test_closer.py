"""A closer look against its rule in full frames, its windows by hand, and a coin that it finds in a large picture."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data

from sam_core.answers import answer
from sam_core.closer import LEVEL, SIZE, look_closer, windows_of
from sam_core.geometry import uncrop, upscale_logits
from sam_core.mirror import mirror_logits, mirror_window
from sam_core.model.checkpoint import load_model
from sam_core.model.sam import Sam
from sam_core.predict import Look, Prompts, decode, look_at
from sam_core.windows import Box, window_around, windows_over

Masks = NDArray[np.bool_]
COINS = (303, 384)
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


def looks(sam: Sam, image: NDArray[np.uint8]) -> tuple[Look, Look]:
    """Of an image and of its mirror image, each window encoded once."""
    return cache(look_at(sam, image)), cache(look_at(sam, np.ascontiguousarray(image[:, ::-1])))


def masks_through(
    sam: Sam, look: Look, other: Look, width: int, window: Box, place: tuple[float, float]
) -> list[tuple[Masks, float]]:
    """What a click finds in a window of the image and, turned back at full size, of its mirror image, and the mean of
    the predicted IoUs; in the frame of the whole image."""
    x0, y0, x1, y1 = window
    here = decode(sam, look(window), click(place))
    there = decode(sam, other((width - x1, y0, width - x0, y1)), click((width - place[0], place[1])))
    logits = upscale_logits(here.logits, here.frame)[0] + upscale_logits(there.logits, there.frame)[0].flip(-1)
    scores = (here.iou[0] + there.iou[0]) / 2
    return [
        (uncrop(mask, here.frame), score) for mask, score in zip((logits > 0).numpy(), scores.tolist(), strict=True)
    ]


def iou(one: Masks, other: Masks) -> float:
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def trusted(
    sam: Sam, look: Look, other: Look, size: tuple[int, int], place: tuple[float, float]
) -> tuple[Box, Masks, float]:
    """The rule in full frames, mask by mask: the window, the mask and what it is trusted."""
    answers = []
    for level, window in enumerate(windows_over(size, place)):
        x0, y0, x1, y1 = window
        rim = np.zeros(size, bool)
        rim[y0:y1, x0:x1] = True
        rim[y0 + (y0 > 0) : y1 - (y1 < size[0]), x0 + (x0 > 0) : x1 - (x1 < size[1])] = False
        for mask, predicted in masks_through(sam, look, other, size[1], window, place):
            if mask.any() and not (mask & rim).any():
                quarter = (x1 - x0) * (y1 - y0) / 4
                misfit = abs(np.log2(np.count_nonzero(mask) / quarter))
                answers.append((window, mask, max(predicted - LEVEL * level - SIZE * misfit, 0.001)))
    trust = []
    for _, mask, own in answers:
        alike = [iou(mask, other) for _, other, _ in answers]
        trust.append((own + np.average(alike, weights=[weight for *_, weight in answers])) / 2)
    best = int(np.argmax(trust))
    return answers[best][0], answers[best][1], trust[best]


@pytest.mark.slow
def test_the_mask_that_is_trusted_most_is_chosen(sam: Sam, field: NDArray[np.uint8], coins: NDArray[np.uint8]) -> None:
    chosen, upright = set(), coins.transpose(1, 0, 2).copy()
    # Logits of an upright picture's mirror image lie between cells, so that borders are interpolated once more.
    for image, place, bound in (
        (field, COIN, 1e-4),
        (field, (20.0, 500.0), 1e-4),
        (coins, (120.0, 60.0), 1e-4),
        (upright, (60.0, 120.0), 5e-3),
    ):
        seen, size = looks(sam, image), (image.shape[0], image.shape[1])
        found = look_closer(sam, *seen, size, click(place))
        window, mask, trust = trusted(sam, *seen, size, place)
        assert found.frame.crop_box == window
        assert found.iou.shape == (1, 3)
        assert found.best().iou.item() == pytest.approx(trust, abs=bound)
        mine = uncrop(found.best().masks()[0, 0].numpy(), found.frame)
        assert iou(mine, mask) > 1 - 10 * bound
        chosen.add((image.shape, window))
    assert len(chosen) > 3, "one window for every place would prove nothing"


def test_a_coin_that_is_lost_among_others_is_found(sam: Sam, field: NDArray[np.uint8]) -> None:
    true = disc()
    whole = answer(sam, look_at(sam, field)((0, 0, FIELD[1], FIELD[0])), click(COIN)).best()
    close = look_closer(sam, *looks(sam, field), FIELD, click(COIN)).best()
    masks = (uncrop(found.masks()[0, 0].numpy(), found.frame) for found in (whole, close))
    before, after = (iou(mask, true) for mask in masks)
    assert (before < 0.3, after > 0.7) == (True, True), (before, after)


def test_an_image_and_its_mirror_image_have_the_same_answer(sam: Sam, coins: NDArray[np.uint8]) -> None:
    one, other = looks(sam, coins)
    here = look_closer(sam, one, other, COINS, click((120.0, 60.0))).best()
    there = look_closer(sam, other, one, COINS, click((COINS[1] - 120.0, 60.0))).best()
    assert there.frame.crop_box == mirror_window(here.frame.crop_box, COINS[1])
    np.testing.assert_allclose(mirror_logits(there.logits, there.frame).numpy(), here.logits.numpy(), atol=1e-4)


def test_a_box_says_which_window_it_is(sam: Sam, coins: NDArray[np.uint8]) -> None:
    seen: list[tuple[str, Box]] = []

    def watched(side: str, image: NDArray[np.uint8]) -> Look:
        def look(window: Box):  # type: ignore[no-untyped-def]  # as look_at's
            seen.append((side, window))
            return look_at(sam, image)(window)

        return look

    prompts = Prompts(boxes=torch.tensor([[40.2, 40.0, 70.0, 69.5]]))
    both = watched("image", coins), watched("mirror", coins[:, ::-1])
    found = look_closer(sam, *both, COINS, prompts)
    window = window_around(COINS, (40, 40, 70, 70))
    assert seen == [("image", window), ("mirror", mirror_window(window, COINS[1]))]
    assert found.frame.crop_box == window


def test_where_nothing_is_an_answer_the_whole_image_stays(sam: Sam) -> None:
    nothing = deepcopy(sam)
    for head in nothing.mask_decoder.output_hypernetworks_mlps:
        torch.nn.init.zeros_(head.layers[-1].weight)
        torch.nn.init.zeros_(head.layers[-1].bias)
    found = look_closer(nothing, *looks(nothing, np.zeros((100, 120, 3), np.uint8)), (100, 120), click((60.0, 50.0)))
    assert found.frame.crop_box == (0, 0, 120, 100)
    assert not found.masks().any()
    assert not found.iou.any()  # nobody trusts what is no answer


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


def test_a_box_that_goes_on_forever_is_refused() -> None:
    with pytest.raises(ValueError, match="coordinates of a prompt must be finite"):
        windows_of((100, 100), Prompts(boxes=torch.tensor([[0.0, 0.0, float("inf"), 30.0]])))
