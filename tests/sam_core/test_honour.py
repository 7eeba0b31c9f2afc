"""Every click lies on its side of the mask, where any level of the logits has them all there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import frame_of, upscale_logits
from sam_core.honour import MARGIN, MOST, honour_clicks, levels_of
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


def test_clicks_that_no_level_can_honour_change_nothing() -> None:
    frame = frame_of((40, IMAGE_SIZE), image_size=IMAGE_SIZE)
    ramp = torch.linspace(-4, 4, SIDE).expand(1, 1, SIDE, SIDE)
    batch = MaskBatch(ramp, torch.ones(1, 1), frame)
    against = Prompts(torch.tensor([[[8.0, 9.0], [50.0, 9.0]]]), torch.tensor([[FOREGROUND, BACKGROUND]]))
    torch.testing.assert_close(honour_clicks(batch, against).logits, ramp)
    box = Prompts(boxes=torch.tensor([[1.0, 2.0, 30.0, 20.0]]))
    assert honour_clicks(batch, box) is batch
    left = Prompts(torch.tensor([[[20.5, 9.5]]]), torch.tensor([[FOREGROUND]]))
    values = upscale_logits(honour_clicks(batch, left).logits, frame)[0, 0]
    assert values[9, 20] == pytest.approx(MARGIN, abs=1e-3), "just inside"
