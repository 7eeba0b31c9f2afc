"""The level that has clicks on their sides: in real Chromium beside Python's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from sam_core.honour import levels_of

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, new_page
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig

pytestmark = NEEDS_CHROMIUM
SIDE, IMAGE_SIZE = 8, 32
_HONOURED = """(cases) => import("/honour.js").then(({ honourClicks }) => cases.map(([logits, points, labels]) =>
  Array.from(honourClicks(Float32Array.from(logits), { side: 8, imageSize: 32 }, points, labels))))"""


def test_the_browser_finds_the_level_that_python_finds(
    browser: Browser, running: Callable[..., Running], config: AnnotateConfig
) -> None:
    """Clicks of both kinds, corners of a box and padding, also at the borders of the picture."""
    page = new_page(browser)
    page.goto(running(config).address)
    rng = np.random.default_rng(0)
    logits = rng.normal(rng.normal(0, 3, (200, 1)), 2, (200, SIDE * SIDE)).astype(np.float32)
    points = rng.uniform(-1, IMAGE_SIZE + 1, (200, 3, 2)).clip(0, IMAGE_SIZE).astype(np.float32)
    labels = rng.choice([-1, 0, 1, 2, 3], (200, 3))
    given = (torch.from_numpy(part) for part in (logits.reshape(-1, 1, SIDE, SIDE), points, labels))
    levels = levels_of(*given, IMAGE_SIZE).numpy()
    assert (levels > 0).sum() > 20 < (levels < 0).sum()
    cases = [[a.tolist(), b.ravel().tolist(), c.tolist()] for a, b, c in zip(logits, points, labels, strict=True)]
    np.testing.assert_allclose(page.evaluate(_HONOURED, cases), logits - levels, atol=1e-5)
