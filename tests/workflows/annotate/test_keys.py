"""Keys of real Chromium under keyboards that are not American."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, expect

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, new_page, sit_down
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig

pytestmark = NEEDS_CHROMIUM
_ACTION = "(event) => import('/keys.js').then(({ actionOf }) => actionOf(event) ?? null)"
CASES = [
    ("US", "p", "KeyP", "", "tool:points"),
    ("US", "Z", "KeyZ", "shift", "redo"),
    ("US", "!", "Digit1", "shift", None),
    ("German", "z", "KeyY", "", "undo"),
    ("German", "ß", "Minus", "", None),
    ("Dvorak", "i", "KeyG", "", None),  # a Latin letter is what it says
    ("French", "&", "Digit1", "", "candidate:0"),
    ("French", "à", "Digit0", "", "fit"),
    ("French", "-", "Digit6", "", "zoom-out"),
    ("Bépo", "’", "KeyN", "", None),
    ("Czech", "+", "Digit1", "", "zoom-in"),
    ("Russian", "з", "KeyP", "", "tool:points"),
    ("Russian", "Я", "KeyZ", "shift", "redo"),
    ("Russian", "я", "KeyZ", "ctrl", "undo"),
    ("Russian", "х", "BracketLeft", "", "smaller"),
    ("Arabic", "لا", "KeyB", "", "tool:brush"),
    ("Korean", "ㅜ", "KeyN", "", "finish"),
    ("Mac, with Option", "Ω", "KeyZ", "alt", None),
]


def test_keys_do_the_same_on_other_keyboards(
    browser: Browser, running: Callable[..., Running], config: AnnotateConfig
) -> None:
    page = new_page(browser)
    page.goto(running(config).address)
    for layout, key, code, held, wanted in CASES:
        event = {"key": key, "code": code} | {f"{name}Key": name == held for name in ("ctrl", "shift", "alt", "meta")}
        assert (layout, key, page.evaluate(_ACTION, event)) == (layout, key, wanted)


def test_a_russian_keyboard_takes_the_box_and_opens_the_list(
    browser: Browser, running: Callable[..., Running], config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config).address, "Ada")
    keyboard = ada.page.context.new_cdp_session(ada.page)
    keyboard.send("Input.dispatchKeyEvent", {"type": "keyDown", "key": "к", "code": "KeyR"})
    expect(ada.page.get_by_role("radio", name="Box")).to_have_attribute("aria-checked", "true")
    keyboard.send("Input.dispatchKeyEvent", {"type": "keyDown", "key": "й", "code": "KeyQ"})
    expect(ada.page.get_by_role("dialog", name="Images")).to_be_visible()
