"""Other screens, mice and fingers than a developer's, in real Chromium."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, CDPSession, FloatRect, expect

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

_GESTURE = """([kind, scale, clientX, clientY]) => document.getElementById("viewport").dispatchEvent(
  Object.assign(new Event(kind, { bubbles: true, cancelable: true }), { scale, clientX, clientY }),
)"""


@pytest.fixture
def ada(browser: Browser, running: Callable[..., Running], config: AnnotateConfig) -> Person:
    """A person with a browser of her own."""
    return sit_down(browser, running(config).address, "Ada")


@dataclass(frozen=True, slots=True)
class Hand:
    """Fingers and a pen on the screen; places are fractions of the picture as it lay at first."""

    person: Person
    session: CDPSession
    box: FloatRect

    def touch(self, kind: str, *places: tuple[float, float]) -> None:
        """All fingers that are on the screen."""
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(map(self.at, places))]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def pen(self, kind: str, place: tuple[float, float]) -> None:
        x, y = self.at(place)
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "pointerType": "pen", "clickCount": 1}
        self.session.send("Input.dispatchMouseEvent", event)

    def at(self, place: tuple[float, float]) -> tuple[float, float]:
        return self.box["x"] + place[0] * self.box["width"], self.box["y"] + place[1] * self.box["height"]


@pytest.fixture
def hand(ada: Person) -> Hand:
    return Hand(ada, ada.page.context.new_cdp_session(ada.page), shown(ada))


def shown(person: Person) -> FloatRect:
    """Where the picture is on the screen."""
    box = person.page.locator("#photo").bounding_box()
    assert box is not None
    return box


def points(person: Person) -> list[list[float]]:
    return list(person.page.evaluate("() => annotate.prompt.points"))


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
    assert [label for _, _, label in points(ada)] == [0]
    left = ada.at(0, 0)[0]
    ada.press("Meta+ArrowRight")
    assert ada.at(0, 0)[0] == pytest.approx(left - 60)


def test_two_fingers_move_and_enlarge_the_picture_and_click_nothing(ada: Person, hand: Hand) -> None:
    hand.touch("touchStart", (0.4, 0.5))
    hand.touch("touchStart", (0.4, 0.5), (0.6, 0.5))
    hand.touch("touchMove", (0.4, 0.6), (0.8, 0.6))
    hand.touch("touchEnd")
    after, before = shown(ada), hand.box
    assert after["width"] == pytest.approx(2 * before["width"], rel=0.01)
    left = before["x"] + 0.6 * before["width"] - 0.5 * after["width"]  # the picture's middle lies between the fingers
    assert after["x"] == pytest.approx(left, abs=2)
    assert points(ada) == []


def test_a_finger_clicks_and_draws(ada: Person, hand: Hand) -> None:
    hand.touch("touchStart", (0.5, 0.5))
    hand.touch("touchEnd")
    ada.answered()
    assert points(ada) == [[pytest.approx(32, abs=1), pytest.approx(24, abs=1), 1]]
    ada.press("Escape", "b", *["["] * 8)
    hand.touch("touchStart", (0.2, 0.2))
    hand.touch("touchMove", (0.4, 0.2))
    hand.touch("touchMove", (0.6, 0.2))
    hand.touch("touchEnd")
    rows, columns = np.nonzero(ada.seen())
    assert (columns.min() < 14, columns.max() > 36, rows.max() < 14) == (True, True, True)


def test_a_pen_draws_beside_a_palm(ada: Person, hand: Hand) -> None:
    ada.press("b", *["["] * 8)
    hand.touch("touchStart", (0.8, 0.8))
    hand.pen("mousePressed", (0.2, 0.2))
    hand.pen("mouseMoved", (0.5, 0.2))
    hand.pen("mouseReleased", (0.5, 0.2))
    hand.touch("touchEnd")
    rows, columns = np.nonzero(ada.seen())
    assert (columns.max() > 30, rows.max() < 14) == (True, True)
    ada.press("z")
    assert not ada.seen().any()


def test_a_pinch_on_a_trackpad_enlarges_as_much_as_the_fingers_move(ada: Person) -> None:
    """Chromium and Firefox say a wheel with Ctrl, of 100 px times the logarithm of the scale; Safari says a gesture."""
    width, at = shown(ada)["width"], ada.at(0.5, 0.5)
    ada.page.mouse.move(*at)
    ada.page.keyboard.down("Control")
    for _ in range(10):
        ada.page.mouse.wheel(0, -6.93)
    ada.page.keyboard.up("Control")
    assert shown(ada)["width"] == pytest.approx(2 * width, rel=0.05)
    for scale in (1, 0.8, 0.5):
        ada.page.evaluate(_GESTURE, ["gesturechange" if scale < 1 else "gesturestart", scale, *at])
    assert shown(ada)["width"] == pytest.approx(width, rel=0.05)


def test_what_is_chosen_shows_where_colours_are_forced(ada: Person) -> None:
    """As by the contrast themes of Windows, under which no background but the system's is drawn."""
    ada.brush((0.2, 0.2), (0.6, 0.6))
    swatch = "() => getComputedStyle(document.querySelector('#masks i')).backgroundColor"
    colour = ada.page.evaluate(swatch)
    ada.page.emulate_media(forced_colors="active")
    assert ada.page.evaluate(swatch) == colour
    for name, style in (("Brush", "solid"), ("Box", "none")):
        expect(ada.page.get_by_role("radio", name=name)).to_have_css("outline-style", style)
