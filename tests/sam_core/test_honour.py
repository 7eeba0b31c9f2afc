"""Clicks lie on their side of the mask: beside a slow version, as properties, and on a photograph."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import frame_of, upscale_logits
from sam_core.honour import BEYOND, FAR, MARGIN, MOST, NEAR, SHARE, WIDTH, honour_clicks, levels_of, moved_by_clicks
from sam_core.masks.batch import MaskBatch
from sam_core.model.checkpoint import load_model
from sam_core.predict import Prompts, decode, encode

SIDE, IMAGE_SIZE = 16, 64
FOREGROUND, BACKGROUND, PADDING, CORNER = 1, 0, -1, 2


def value_at(logits: NDArray[np.float32], x: float, y: float) -> float:
    """A logit between cells, written out; beyond the outermost centres it is theirs."""
    x, y = (min(max(place * SIDE / IMAGE_SIZE - 0.5, 0), SIDE - 1) for place in (x, y))
    (left, top), (right, bottom) = (int(x), int(y)), (min(int(x) + 1, SIDE - 1), min(int(y) + 1, SIDE - 1))
    upper = logits[top, left] * (1 - x % 1) + logits[top, right] * (x % 1)
    lower = logits[bottom, left] * (1 - x % 1) + logits[bottom, right] * (x % 1)
    return float(upper * (1 - y % 1) + lower * (y % 1))


def expected(logits: NDArray[np.float32], clicks: list[tuple[float, float, int]]) -> float:
    inside = [value_at(logits, x, y) for x, y, label in clicks if label == FOREGROUND]
    outside = [value_at(logits, x, y) for x, y, label in clicks if label == BACKGROUND]
    least, most = max(outside, default=-99.0) + MARGIN, min(inside, default=99.0) - MARGIN
    level = least if least > 0 else most if most < 0 else 0.0
    return level if least < most and abs(level) <= MOST else 0.0


@pytest.mark.parametrize("seed", range(20))
def test_the_level_is_the_nearest_to_0_that_has_every_click_on_its_side(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(rng.normal(0, 3), 2, (3, SIDE, SIDE)).astype(np.float32)
    labels = rng.choice([FOREGROUND, BACKGROUND, PADDING, CORNER], 3)
    clicks = [(*rng.uniform(0, IMAGE_SIZE, 2), label) for label in labels]
    points = torch.tensor([[click[:2] for click in clicks]], dtype=torch.float32)
    found = levels_of(torch.from_numpy(logits)[None], points, torch.from_numpy(labels)[None], IMAGE_SIZE)
    np.testing.assert_allclose(found[0], [expected(each, clicks) for each in logits], atol=1e-5)


def slowly(logits: NDArray[np.float32], clicks: list[tuple[float, float, int]]) -> NDArray[np.float32]:
    """One mask moved by its clicks, cell by cell."""
    logits = logits - SHARE * expected(logits, clicks)
    for x, y, label in clicks:
        sign = {FOREGROUND: 1, BACKGROUND: -1}.get(label, 0)
        value = value_at(logits, x, y)
        if not sign or sign * value >= MARGIN:
            continue
        place = (x * SIDE / IMAGE_SIZE - 0.5, y * SIDE / IMAGE_SIZE - 0.5)
        squares = np.array([[math.dist(place, (column, row)) ** 2 for column in range(SIDE)] for row in range(SIDE)])
        own = squares[sign * logits > 0]
        reach = min(max(math.sqrt(own.min()) if len(own) else math.inf, NEAR), max(NEAR, FAR * SIDE))
        spread = np.exp(-squares / (2 * (WIDTH * reach) ** 2))
        logits = logits + spread / value_at(spread, x, y) * (sign * MARGIN - BEYOND * value)
    return logits


@pytest.mark.parametrize("seed", range(20))
def test_logits_move_as_in_a_slow_version_and_the_last_click_is_on_its_side(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(rng.normal(0, 3), 2, (3, SIDE, SIDE)).astype(np.float32)
    labels = [*rng.choice([FOREGROUND, BACKGROUND, PADDING, CORNER], 3), rng.choice([FOREGROUND, BACKGROUND])]
    clicks = [(*rng.uniform(0, IMAGE_SIZE, 2), label) for label in labels]
    points = torch.tensor([[click[:2] for click in clicks]], dtype=torch.float32)
    found = moved_by_clicks(torch.from_numpy(logits)[None], points, torch.tensor([labels]), IMAGE_SIZE)[0].numpy()
    np.testing.assert_allclose(found, [slowly(each, clicks) for each in logits], atol=1e-4)
    last = [value_at(each, *clicks[-1][:2]) for each in found]
    assert (np.array(last) > 0).tolist() == [labels[-1] == FOREGROUND] * 3


@pytest.mark.parametrize("label", [FOREGROUND, BACKGROUND])
def test_a_click_on_a_photograph_is_in_the_mask_or_out_of_it(photo: NDArray[np.uint8], label: int) -> None:
    """Where the border is wrong by not too much: masks are moved by three so that no click is on its side."""
    sam = load_model("vit_n").sam
    embedding = encode(sam, [photo])
    prompts = Prompts(torch.tensor([[[210.0, 150.0]], [[90.0, 60.0]]]), torch.full((2, 1), label))
    said = decode(sam, embedding, prompts)
    wrong = clicked(upscale_logits(said.logits, said.frame)) + (3 if label == FOREGROUND else -3)
    batch = MaskBatch(said.logits - wrong[..., None, None], said.iou, said.frame)
    assert clicked(batch.masks()).eq(label == BACKGROUND).all()
    assert clicked(honour_clicks(batch, prompts).masks()).eq(label == FOREGROUND).all()


def clicked(pixels: Tensor) -> Tensor:
    """What two prompts' pixels [2, M, H, W] are at the click of each: [2, M]."""
    return torch.stack([pixels[0, :, 150, 210], pixels[1, :, 60, 90]])


def test_clicks_that_no_level_can_honour_move_what_is_around_them() -> None:
    """The mask is on the right; one click asks for the left, one against the right."""
    frame = frame_of((IMAGE_SIZE, IMAGE_SIZE), image_size=IMAGE_SIZE)
    ramp = torch.linspace(-4, 4, SIDE).expand(1, 1, SIDE, SIDE)
    batch = MaskBatch(ramp, torch.ones(1, 1), frame)
    against = Prompts(torch.tensor([[[8.0, 10.0], [50.0, 10.0]]]), torch.tensor([[FOREGROUND, BACKGROUND]]))
    moved = honour_clicks(batch, against)
    pixels = moved.masks()[0, 0]
    assert (pixels[10, 8].item(), pixels[10, 50].item()) == (True, False)
    assert pixels[40:].equal(batch.masks()[0, 0, 40:]), "far from the clicks it is the model's own"


def test_boxes_change_nothing() -> None:
    frame = frame_of((40, IMAGE_SIZE), image_size=IMAGE_SIZE)
    batch = MaskBatch(torch.ones(1, 1, SIDE, SIDE), torch.ones(1, 1), frame)
    assert honour_clicks(batch, Prompts(boxes=torch.tensor([[1.0, 2.0, 30.0, 20.0]]))) is batch
