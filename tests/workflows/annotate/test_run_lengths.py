"""What the app saves is what is on the screen: run lengths in real Chromium beside those of Python."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product

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
_CUT = """([counts, height, ranges]) => import("/rle.js").then(({ decompress, eachStrip, holds, inverse }) => {
  const mask = decompress(counts);
  const strips = (of, ...range) => {
    const all = [];
    eachStrip(of, height, (...strip) => all.push(strip), ...range);
    return all;
  };
  const pixels = [...Array(mask.ends.at(-1)).keys()];
  const held = pixels.map((at) => holds(mask, height, Math.floor(at / height), at % height));
  return [strips(mask), strips(inverse(mask)), ranges.map((range) => strips(mask, ...range)), held];
})"""
_ENCODED = """(cases) => import("/rle.js").then(({ areaOf, boxOf, compress, fromBitmap }) =>
  cases.map(([bitmap, height, [x0, y0, x1, y1]]) => {
    const mask = fromBitmap(Uint8Array.from(bitmap), height, { x0, y0, x1, y1 });
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
        asked = [[m.T.ravel().astype(int).tolist(), len(m), box] for m, box in zip(masks, boxes, strict=True)]
        for mask, found in zip(masks, page.evaluate(_ENCODED, asked), strict=True):
            assert found == [encode(mask).decode(), mask.sum(), list(box_of(mask))]


def test_strips_are_those_of_the_columns_that_are_asked_for(
    browser: Browser, running: Callable[..., Running], config: AnnotateConfig
) -> None:
    page = new_page(browser)
    page.goto(running(config).address)
    ranges = list(combinations(range(10), 2))
    for seed, share in product(range(4), (0.1, 0.5, 0.9)):
        mask = np.random.default_rng(seed).random((7, 9)) < share
        whole, others, parts, held = page.evaluate(_CUT, [encode(mask).decode(), 7, ranges])
        assert whole == _strips(mask)
        assert others == _strips(~mask)
        assert parts == [[strip for strip in whole if first <= strip[0] < last] for first, last in ranges]
        assert held == mask.T.ravel().tolist()


def _strips(mask: np.ndarray) -> list[list[int]]:
    """[column, top, bottom] of every vertical strip, looked for pixel by pixel."""
    found: list[list[int]] = []
    for x, y in zip(*np.nonzero(mask.T), strict=True):
        if found and found[-1][0] == x and found[-1][2] == y:
            found[-1][2] += 1
        else:
            found.append([int(x), int(y), int(y) + 1])
    return found
