"""What the app saves is what is on the screen: run lengths in real Chromium beside those of Python."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from sam_core.masks.rle import encode
from sam_core.windows import box_of

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, new_page
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig

pytestmark = NEEDS_CHROMIUM
_ENCODED = """(cases) => import("/rle.js").then(({ areaOf, boxOf, compress, fromBitmap }) =>
  cases.map(([bitmap, height, width, [x0, y0, x1, y1]]) => {
    const mask = fromBitmap(Uint8Array.from(bitmap), width, height, { x0, y0, x1, y1 });
    const box = boxOf(mask, height);
    return [compress(mask), areaOf(mask), [box.x0, box.y0, box.x1, box.y1]];
  }))"""


def test_masks_at_every_border_are_encoded_as_they_are(
    browser: Browser, running: Callable[..., Running], config: AnnotateConfig
) -> None:
    """Every mask of 3 x 3 and of 2 x 4 px, looked at in its box and in all of the picture."""
    page = new_page(browser)
    page.goto(running(config).address)
    masks = [np.reshape(bits, size) for size in ((3, 3), (2, 4)) for bits in product((0, 1), repeat=size[0] * size[1])]
    masks = [mask.astype(bool) for mask in masks if mask.any()]
    for boxes in ([box_of(mask) for mask in masks], [(0, 0, *mask.shape[::-1]) for mask in masks]):
        asked = [[m.ravel().astype(int).tolist(), *m.shape, box] for m, box in zip(masks, boxes, strict=True)]
        for mask, found in zip(masks, page.evaluate(_ENCODED, asked), strict=True):
            assert found == [encode(mask).decode(), mask.sum(), list(box_of(mask))]
