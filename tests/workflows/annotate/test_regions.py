"""Parts and holes of a mask in real Chromium beside those that SciPy finds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from sam_core.masks.rle import encode

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, new_page
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig

pytestmark = NEEDS_CHROMIUM
HEIGHT, WIDTH = 13, 17
_FOUND = """([counts, width, height]) => Promise.all(["/rle.js", "/regions.js"].map((name) => import(name))).then(
  ([{ decompress }, { countRegions, holesOf, straysOf }]) => {
    const mask = decompress(counts);
    return [countRegions(mask, width, height), holesOf(mask, width, height).flat(), straysOf(mask, height).flat()];
  })"""


def test_parts_and_holes_are_those_that_scipy_finds(
    browser: Browser, running: Callable[..., Running], config: AnnotateConfig
) -> None:
    page = new_page(browser)
    page.goto(running(config).address)
    for seed, share in product(range(20), (0.0, 0.3, 0.6, 0.7, 0.9, 1.0)):
        mask = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < share
        counts, holes, strays = page.evaluate(_FOUND, [encode(mask).decode(), WIDTH, HEIGHT])
        parts, expected = ndimage.label(mask)[1], ndimage.binary_fill_holes(mask) & ~mask
        assert counts == {"parts": parts, "holes": ndimage.label(expected)[1]}
        assert (_pixels(holes) == expected).all()
        rest, number = ndimage.label(mask & ~_pixels(strays))
        assert number == min(parts, 1)
        assert rest.sum() == max(np.bincount(ndimage.label(mask)[0][mask]), default=0)
        assert not (_pixels(strays) & ~mask).any()


def _pixels(strips: list[list[int]]) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for x, top, bottom in strips:
        mask[top:bottom, x] = True
    return mask
