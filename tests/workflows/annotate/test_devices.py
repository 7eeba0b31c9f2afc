"""Other screens, mice and fingers than a developer's, in real Chromium."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, sit_down
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig

pytestmark = NEEDS_CHROMIUM
_CURSOR = """() => {
  const canvas = document.getElementById("overlay");
  const { x, y, width } = canvas.getBoundingClientRect();
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const drawn = [...Array(data.length / 4).keys()].filter((at) => data[4 * at + 3]);
  const middle = (of) => (Math.min(...drawn.map(of)) + Math.max(...drawn.map(of)) + 1) / 2;
  const scale = width / canvas.width;
  return [x + scale * middle((at) => at % canvas.width), y + scale * middle((at) => Math.floor(at / canvas.width))];
}"""


@pytest.fixture
def ada(browser: Browser, running: Callable[..., Running], config: AnnotateConfig) -> Person:
    """A person with a browser of her own."""
    return sit_down(browser, running(config).address, "Ada")


def test_the_cursor_is_drawn_where_the_mouse_is_after_a_move_to_another_screen(ada: Person) -> None:
    """The window keeps its size, and has twice as many pixels to an inch."""
    screen = ada.page.context.new_cdp_session(ada.page)
    metrics = {"width": 1100, "height": 720, "deviceScaleFactor": 2, "mobile": False}
    screen.send("Emulation.setDeviceMetricsOverride", metrics)
    ada.page.wait_for_function("() => devicePixelRatio === 2")
    ada.press("b")
    ada.page.mouse.move(400, 300)
    assert ada.page.evaluate(_CURSOR) == pytest.approx([400, 300], abs=1)
