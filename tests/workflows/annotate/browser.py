"""A person in front of the app: real Chromium, driven by Playwright."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Route, TimeoutError, expect, sync_playwright

_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _PROGRAMS)), None)
"""The browser: preferably the one without windows, whose empty page takes a tenth of the CPU time."""
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install chromium-headless-shell, or chromium"
)
PATIENCE = 60_000
"""Milliseconds after which a wait counts as hung: far more than a busy machine takes for anything a test waits for."""
_FLAGS = (
    *("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"),  # a GPU in software
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
_PIXELS = """() => {
  const canvas = document.getElementById("active");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (let i = 3; i < data.length; i += 4) text += data[i] ? "1" : "0";
  return [canvas.height, canvas.width, btoa(text)];
}"""
_SOON_AGAIN = """
  const later = window.setTimeout;
  const soon = pause => (pause >= 1000 && pause <= 4000 ? pause / 20 : pause);
  window.setTimeout = (work, pause, ...rest) => later(work, soon(pause), ...rest);
"""
"""What the page tries again after one to four seconds it tries a twentieth of that later: tests would sit idle."""
_AT_NEXT_SAVE = """() => {
  const { transaction } = IDBDatabase.prototype;
  IDBDatabase.prototype.transaction = function (names, mode) {
    const begun = transaction.call(this, names, mode);
    if (!names.includes("outbox") || mode !== "readwrite") return begun;
    IDBDatabase.prototype.transaction = transaction;
    (%s)(begun, this);
    return begun;
  };
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium without a window."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS), timeout=PATIENCE)
        yield browser
        browser.close()


def at_next_save(page: Page, then: str) -> None:
    """Has JavaScript meddle with the next transaction by which the page keeps a save in the browser's store.

    then: a function of the transaction and its database, called before the page asks how it ends.
    """
    page.evaluate(_AT_NEXT_SAVE % then)


def new_page(browser: Browser, **options: Any) -> Page:
    """A page in a browser profile of its own."""
    context = browser.new_context(**options)
    context.add_init_script(_SOON_AGAIN)
    context.set_default_timeout(PATIENCE)
    return context.new_page()


def wait_for(page: Page, selector: str) -> None:
    """Wait until the page has such an element: looked for in every frame, where Playwright would twice a second."""
    page.wait_for_function("selector => document.querySelector(selector)", arg=selector)


def says(page: Page, selector: str, text: str) -> None:
    """Wait until the element says exactly this, as `expect`, which would look once a second."""
    found = "([selector, text]) => document.querySelector(selector)?.textContent.trim() === text"
    with suppress(TimeoutError):
        page.wait_for_function(found, arg=[selector, text])
    expect(page.locator(selector)).to_have_text(text, timeout=1)


@dataclass(frozen=True, slots=True)
class Person:
    """One annotator with a browser of their own."""

    page: Page

    def sign_in(self, name: str = "Ada") -> Person:
        """Say who sits there, on a page that asks for it."""
        self.page.fill("#name", name)
        self.page.press("#name", "Enter")
        return self

    def ready(self) -> Person:
        """Wait until an image is open (or nothing is left)."""
        wait_for(self.page, "html[data-ready=true]")
        return self

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place on the screen of a point given in fractions of the picture."""
        box = self.page.locator("#photo").bounding_box()
        assert box is not None
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def click(self, x: float, y: float, *, button: str = "left") -> None:
        self.page.mouse.click(*self.at(x, y), button=button)  # type: ignore[arg-type]
        self.answered()

    def drag(self, *path: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(*path[0]))
        self.page.mouse.down()
        for point in path[1:]:
            self.page.mouse.move(*self.at(*point), steps=4)
        self.page.mouse.up()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def brush(self, *path: tuple[float, float]) -> None:
        """A mask by one stroke of the brush, which stays in the hand."""
        self.press("b")
        self.drag(*path)
        self.press("Enter")

    def answered(self) -> None:
        """Wait until the model has nothing left to say."""
        wait_for(self.page, "html[data-busy=false]")

    def settled(self) -> None:
        """Wait until the model sees what is looked at, or it is said that it does not."""
        wait_for(self.page, "html[data-settled=true]")

    def kept(self) -> None:
        """Wait until the mask in work lies in the browser's own store."""
        wait_for(self.page, "html[data-kept=true]")

    def shows(self, name: str) -> None:
        """Wait until an image is open and all of it is there."""
        expect(self.page.locator("#image-name")).to_contain_text(name)
        wait_for(self.page, "html:not([data-image=''])")

    def saved(self) -> None:
        """Wait until the server has everything."""
        says(self.page, "#saved", "all saved")

    def seen(self) -> NDArray[np.bool_]:
        """The mask in work as it is on the screen: bool [H, W]."""
        height, width, text = self.page.evaluate(_PIXELS)
        pixels = np.frombuffer(base64.b64decode(text), np.uint8) == ord("1")
        return pixels.reshape(height, width)

    def masks(self) -> dict[str, object]:
        """What the app holds: `active` and `saved` masks as COCO counts."""
        return dict(self.page.evaluate("() => annotate.masks"))


def sit_down(browser: Browser, address: str, name: str) -> Person:
    """Open the app in a browser profile of its own and sign in."""
    page = new_page(browser, viewport={"width": 1100, "height": 720})
    page.goto(address)
    return Person(page).sign_in(name).ready()


@contextmanager
def held(page: Page, address: str) -> Iterator[None]:
    """What the page asks of such an address goes through only afterwards, when it has asked at least once."""
    asked: list[Route] = []
    holding = True
    page.route(address, lambda route: asked.append(route) if holding else route.continue_())
    with page.expect_request(address):
        yield
    holding = False
    for route in asked:
        route.continue_()
