"""What saved masks and the mask in work look like in real Chromium, pixel by pixel, beside plain loops over arrays."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam_core.masks.rle import encode

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, Page

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, new_page
from tests.workflows.annotate.conftest import Running, ingest_photo
from workflows.annotate.commands import AnnotateConfig

pytestmark = NEEDS_CHROMIUM
HEIGHT, WIDTH = 60, 2000
EDGE = 3
"""How wide a border is, px: about one pixel of the screen, where all 2,000 of the picture are on 750 of it."""
SAVED, WORK = (92, 235), (104, 255)
"""Alpha of saved masks and of that in work: inside, and of their borders."""
Start = Callable[..., Running]
_ALPHA = """(id) => {
  const canvas = document.getElementById(id);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (let i = 3; i < data.length; i += 4) text += String.fromCharCode(data[i]);
  return btoa(text);
}"""


@pytest.fixture
def panorama(config: AnnotateConfig, tmp_path: Path) -> AnnotateConfig:
    """A task on a picture that is painted in many bands."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return replace(config, dataset=str(ingest_photo(tmp_path, "panorama", pixels)), browser_decoder=False)


def test_masks_are_painted_with_their_borders(browser: Browser, running: Start, panorama: AnnotateConfig) -> None:
    """Discs, a mask with gaps and holes, all of the picture; the smaller ones lie on top."""
    masks = _masks()
    page = _open(browser, running(panorama).address, masks)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for mask in sorted(masks, key=np.count_nonzero, reverse=True):
        expected[mask] = _painted(mask)[mask]
    assert (_alpha(page, "saved-layer") == expected).all()


def test_hidden_masks_come_back_as_they_are_by_then(browser: Browser, running: Start, panorama: AnnotateConfig) -> None:
    masks = _masks()[:2]
    page = _open(browser, running(panorama).address, masks)
    person = Person(page)
    person.press("h")
    page.locator("#masks li").first.get_by_label("Delete mask").click()
    person.press("h")
    page.wait_for_selector("#saved-layer:not(.hidden)")
    assert (_alpha(page, "saved-layer") == _painted(masks[1])).all()


def test_borders_are_as_wide_as_suits_the_scale(browser: Browser, running: Start, panorama: AnnotateConfig) -> None:
    """Zoomed in, a border as wide as before would cover what it is to show."""
    masks = _masks()[2:3]
    person = Person(_open(browser, running(panorama).address, masks))
    person.press("b")
    person.drag((0.5, 0.5), (0.6, 0.5))
    for keys, edge in (((), EDGE), (["+"] * 2, EDGE), (["+"] * 4, 1), (["0"], EDGE)):
        person.press(*keys)
        person.settled()
        assert (_alpha(person.page, "saved-layer") == _painted(masks[0], edge)).all()
        assert (_alpha(person.page, "active") == _painted(person.seen(), edge, *WORK)).all()


def _masks() -> list[np.ndarray]:
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    discs = [np.hypot(y - 25, x - at) < 20 for at in (0, 127, 1024, 1995)]
    wild = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.9
    wild[:, :1300] = False
    return [*discs, wild, np.ones((HEIGHT, WIDTH), bool)]


def _painted(mask: np.ndarray, edge: int = EDGE, fill: int = SAVED[0], border: int = SAVED[1]) -> np.ndarray:
    """Alpha of one mask: a border where its end, down the column, or a column beside it is nearer than `edge`."""
    padded = np.pad(mask, edge)
    inner = mask.copy()
    for shift in range(1, edge + 1):
        inner &= padded[edge - shift : edge - shift + HEIGHT, edge:-edge]
        inner &= padded[edge + shift : edge + shift + HEIGHT, edge:-edge]
    inner &= padded[edge:-edge, :WIDTH] & padded[edge:-edge, 2 * edge :]
    return np.where(inner, fill, np.where(mask, border, 0)).astype(np.uint8)


def _open(browser: Browser, address: str, masks: list[np.ndarray]) -> Page:
    """The app on a picture that has these masks."""
    nothing = dict.fromkeys(("annotator", "source_mask_id", "model_id", "predicted_iou", "stability_score", "point"))
    shown = [
        nothing | {"mask_id": f"m{at}", "revision": 1, "rle": encode(mask).decode()} for at, mask in enumerate(masks)
    ]
    page = new_page(browser, viewport={"width": 1100, "height": 720})
    page.route("**/masks", lambda route: route.fulfill(json=shown))
    page.goto(address)
    Person(page).sign_in().ready().shows("panorama")
    return page


def _alpha(page: Page, layer: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(page.evaluate(_ALPHA, layer)), np.uint8).reshape(HEIGHT, WIDTH)
