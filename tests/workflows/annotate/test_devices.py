"""Other screens, mice and fingers than a developer's, in real Chromium."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, expect

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


def test_enter_saves_after_a_button_was_clicked(ada: Person) -> None:
    """And does not press it again: undone would be what nobody wanted to undo."""
    ada.press("b")
    ada.drag((0.1, 0.1), (0.3, 0.1))
    first = ada.seen()
    ada.drag((0.1, 0.8), (0.3, 0.8))
    ada.page.get_by_role("button", name="Undo").click()
    ada.press("Enter")
    expect(ada.page.locator("#masks li")).to_have_count(1)
    ada.press("j")
    assert (ada.seen() == first).all()


def test_keys_count_after_a_click_beside_the_words(ada: Person) -> None:
    ada.page.evaluate("() => { document.getElementById('ask').hidden = false }")
    ada.page.fill("#phrase", "a wheel")
    ada.page.get_by_role("radio", name="Brush").click()
    ada.press("r")
    expect(ada.page.get_by_role("radio", name="Box")).to_have_attribute("aria-checked", "true")


def test_buttons_are_pressed_by_keys(ada: Person) -> None:
    for key in ("Enter", " "):
        ada.page.get_by_role("radio", name="Eraser").focus()
        ada.press(key)
        expect(ada.page.get_by_role("radio", name="Eraser")).to_have_attribute("aria-checked", "true")
        ada.press("b")


def test_a_stroke_from_beside_the_picture_selects_no_text(ada: Person) -> None:
    ada.press("b")
    ada.page.mouse.move(60, 50)
    ada.page.mouse.down()
    ada.page.mouse.move(1000, 300, steps=4)
    ada.page.mouse.up()
    assert ada.page.evaluate("() => String(getSelection())") == ""


def test_up_on_the_slider_makes_the_brush_larger(ada: Person) -> None:
    slider = ada.page.locator("#brush-size")
    box = slider.bounding_box()
    assert box is not None
    assert box["height"] > 3 * box["width"]
    for part, least, most in ((0.95, 1, 40), (0.5, 120, 180), (0.05, 260, 300)):
        ada.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + part * box["height"])
        assert least <= int(slider.input_value()) <= most
    for key, change in (("ArrowUp", 1), ("ArrowRight", 1), ("ArrowDown", -1), ("ArrowLeft", -1)):
        slider.fill("150")
        slider.press(key)
        assert (key, int(slider.input_value())) == (key, 150 + change)


def test_a_click_with_ctrl_is_background(ada: Person) -> None:
    """It is the right click of a Mac's trackpad, where Cmd with arrows moves the picture."""
    ada.page.keyboard.down("Control")
    ada.click(0.5, 0.5)
    ada.page.keyboard.up("Control")
    assert [label for _, _, label in ada.page.evaluate("() => annotate.prompt.points")] == [0]
    left = ada.at(0, 0)[0]
    ada.press("Meta+ArrowRight")
    assert ada.at(0, 0)[0] == pytest.approx(left - 60)
