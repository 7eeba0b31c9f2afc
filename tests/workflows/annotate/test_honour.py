"""What clicks move of a mask, and the level that people choose: in real Chromium beside Python's."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sam_core.geometry import frame_of
from sam_core.honour import moved_by_clicks
from sam_core.masks.batch import MaskBatch

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, expect

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, new_page, sit_down
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig
from workflows.sql import connect

pytestmark = NEEDS_CHROMIUM
SIDE, IMAGE_SIZE = 8, 32
_HONOURED = """(cases) => import("/honour.js").then(({ honourClicks }) => cases.map(([logits, points, labels]) =>
  Array.from(honourClicks(Float32Array.from(logits), { side: 8, imageSize: 32 }, points, labels))))"""


def test_the_browser_moves_logits_as_python_does(
    browser: Browser, running: Callable[..., Running], config: AnnotateConfig
) -> None:
    """By clicks of both kinds, corners of a box and padding, also at the borders of the picture."""
    page = new_page(browser)
    page.goto(running(config).address)
    rng = np.random.default_rng(0)
    logits = rng.normal(rng.normal(0, 3, (200, 1)), 2, (200, SIDE * SIDE)).astype(np.float32)
    points = rng.uniform(-1, IMAGE_SIZE + 1, (200, 3, 2)).clip(0, IMAGE_SIZE).astype(np.float32)
    labels = rng.choice([-1, 0, 1, 2, 3], (200, 3))
    given = (torch.from_numpy(part) for part in (logits.reshape(-1, 1, SIDE, SIDE), points, labels))
    moved = moved_by_clicks(*given, IMAGE_SIZE).numpy().reshape(200, -1)
    moves = np.abs(moved - logits)
    everywhere, somewhere = moves.min(axis=1) > 0.05, moves.max(axis=1) > 0.1
    assert everywhere.sum() > 20 < (somewhere & ~everywhere).sum(), "all around, and around clicks alone"
    cases = [[a.tolist(), b.ravel().tolist(), c.tolist()] for a, b, c in zip(logits, points, labels, strict=True)]
    np.testing.assert_allclose(page.evaluate(_HONOURED, cases), moved, atol=1e-4)


def test_a_mask_is_drawn_wider_and_tighter_all_around(
    browser: Browser, running: Callable[..., Running], config: AnnotateConfig
) -> None:
    """By half a logit for each press, as one step of undo each, which events tell."""
    address = running(replace(config, model="vit_n")).address
    ada = sit_down(browser, address, "Ada")
    expect(ada.page.locator("#wider")).to_be_disabled()
    ada.click(0.5, 0.5)
    ada.answered()
    asked = {"image_id": ada.page.evaluate("() => document.documentElement.dataset.image"), "output": "logits"}
    asked |= ada.page.evaluate("() => ({ points: annotate.prompt.points })")
    said = ada.page.request.post(f"{address}/api/decode", data=asked).json()
    for key, by in ((".", 0.5), (".", 1.0), (",", 0.5), (",", 0.0), (",", -0.5), ("z", 0.0), ("z", 0.5)):
        ada.press(key)
        ada.answered()
        assert iou(ada.seen(), drawn(said, by, ada.seen().shape)) > 0.999
    ada.page.locator("#tighter").click()
    ada.answered()
    assert iou(ada.seen(), drawn(said, 0.0, ada.seen().shape)) > 0.999
    ada.press("Enter")
    ada.saved()
    counted = connect(config.dataset).sql("SELECT action, count(*) FROM events GROUP BY ALL").fetchall()
    assert {("widen", 2), ("tighten", 4), ("undo", 2)} <= set(counted)


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    assert 0 < b.sum() < b.size
    return float((a & b).sum() / (a | b).sum())


def drawn(said: dict[str, Any], by: float, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """The most confident of a click's masks, drawn at logits of `by` more, from what the server said."""
    values = np.frombuffer(base64.b64decode(said["logits"]), "<f2").astype(np.float32)
    side = round(math.sqrt(len(values) / 4))
    logits = torch.from_numpy(values.reshape(1, 4, side, side)) + by
    best = 1 + int(np.argmax(said["iou"][1:]))
    frame = frame_of(size, image_size=4 * side)
    return MaskBatch(logits[:, [best]], torch.ones(1, 1), frame).masks()[0, 0].numpy()
