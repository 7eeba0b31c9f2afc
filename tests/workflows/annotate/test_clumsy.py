"""Clumsy hands in real Chromium: keys held down, fingers too many, edits that are none, two tabs at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, Route, expect

from sam_core.masks.rle import encode
from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, held, new_page, sit_down
from tests.workflows.annotate.conftest import Running, add_run, blob, body, ingest_photo, mask_row
from workflows.annotate.commands import AnnotateConfig
from workflows.models import find_model
from workflows.sql import connect

pytestmark = NEEDS_CHROMIUM
ONE = "SELECT image_id FROM images ORDER BY uri LIMIT 1"
THREE = "SELECT image_id FROM images ORDER BY uri LIMIT 3"
FIRST, SECOND = "photo-000.png", "photo-001.png"
Start = Callable[..., Running]
_FINGER = """([kind, id, x, y]) => document.getElementById("viewport").dispatchEvent(new PointerEvent(kind, {
  pointerId: id, pointerType: "touch", clientX: x, clientY: y, button: 0, buttons: 1, bubbles: true,
}))"""

_MAY_KEEP_NOTHING = """() => {
  const get = () => { throw new DOMException("The operation is insecure.", "SecurityError"); };
  for (const storage of ["localStorage", "sessionStorage"]) Object.defineProperty(window, storage, { get });
}"""
_SHOWN_BELOW = """() => {
  const canvas = document.getElementById("saved-layer");
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean);
}"""


def told(config: AnnotateConfig, sql: str) -> list[tuple[Any, ...]]:
    return connect(config.dataset).execute(sql).fetchall()


def draw(person: Person, *path: tuple[float, float]) -> None:
    person.press("b")
    person.drag(*(path or ((0.2, 0.2), (0.6, 0.6))))


@pytest.mark.parametrize("key", ["k", "n"])
def test_a_key_held_down_leaves_one_image(browser: Browser, running: Start, config: AnnotateConfig, key: str) -> None:
    ada = sit_down(browser, running(config, images=THREE).address, "Ada")
    ada.shows(FIRST)
    ada.page.keyboard.down(key)
    ada.shows(SECOND)
    ada.page.keyboard.down(key)  # what the keyboard repeats
    ada.page.keyboard.up(key)
    ada.press("b", "n")
    ada.shows("photo-002.png")
    ada.saved()
    actions = [action for (action,) in told(config, "SELECT action FROM events ORDER BY sequence")]
    assert actions == ["open", "skip" if key == "k" else "finish", "open", "finish", "open"]


def test_keys_wait_for_the_end_of_a_stroke(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    ada = sit_down(browser, running(config, images=THREE).address, "Ada")
    faults: list[Exception] = []
    ada.page.on("pageerror", lambda fault: faults.append(fault))
    draw(ada, (0.1, 0.1), (0.2, 0.1))
    ada.page.mouse.move(*ada.at(0.5, 0.5))
    ada.page.mouse.down()
    ada.press("z", "Enter", "n", "e", "Escape")
    ada.page.mouse.move(*ada.at(0.7, 0.5), steps=4)
    ada.page.mouse.up()
    ada.shows(FIRST)
    drawn = ada.seen()
    assert (drawn[:, :20].any(), drawn[24, 33:44].all(), faults) == (True, True, [])
    ada.press("z")
    assert not ada.seen()[:, 33:].any()


def test_a_second_finger_does_not_draw(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    ada = sit_down(browser, running(config, images=THREE).address, "Ada")
    ada.page.evaluate("() => { Element.prototype.setPointerCapture = () => {} }")  # there is no such finger
    ada.press("b")
    for kind, finger, x, y in (
        ("pointerdown", 8, 0.2, 0.2),
        ("pointermove", 8, 0.3, 0.2),
        ("pointerdown", 9, 0.8, 0.8),
        ("pointermove", 9, 0.7, 0.8),
        ("pointermove", 8, 0.4, 0.2),
        ("pointerup", 9, 0.7, 0.8),
        ("pointermove", 8, 0.5, 0.2),
        ("pointerup", 8, 0.5, 0.2),
    ):
        ada.page.evaluate(_FINGER, [kind, finger, *ada.at(x, y)])
    rows, columns = np.nonzero(ada.seen())
    assert (rows.max() < 24, columns.max() > 31) == (True, True)
    ada.press("z")
    assert not ada.seen().any()


def test_looking_at_a_mask_does_not_make_it_ones_own(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    address = running(config, images=ONE).address
    ada, bob = (sit_down(browser, address, name) for name in ("Ada", "Bob"))
    draw(ada)
    ada.press("Enter", "n")
    expect(ada.page.locator("#image-name")).to_have_text("Nothing left to do")
    bob.press("q")
    bob.page.get_by_role("button", name=f"Review {FIRST}").click()
    bob.shows(FIRST)
    bob.press("j")
    expect(bob.page.locator("#work-title")).to_have_text("Editing a mask")
    bob.press("a")
    expect(bob.page.locator("#image-name")).to_have_text("Nothing left to do")
    bob.saved()
    assert told(config, "SELECT annotator, revision FROM annotation_revisions") == [("Ada", 1)]
    assert told(config, "SELECT action FROM events WHERE annotator = 'Bob' AND action = 'accept'") == [("accept",)]


def test_an_edit_that_was_reloaded_is_not_thrown_away(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    ada = sit_down(browser, running(config, images=THREE).address, "Ada")
    for path in (((0.1, 0.1), (0.3, 0.1)), ((0.6, 0.7), (0.8, 0.7))):
        draw(ada, *path)
        ada.press("Enter")
    ada.page.locator("#masks .edit").first.click()
    draw(ada, (0.1, 0.5), (0.3, 0.5))
    edited = ada.seen()
    ada.kept()
    ada.page.reload()
    ada.ready().press("j")
    expect(ada.page.locator("#message")).to_have_text("Save (Enter) or discard (Esc) the mask in work first.")
    assert (ada.seen() == edited).all()


def test_what_the_model_thinks_of_a_mask_is_not_lost_by_a_reload(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=ONE).address, "Ada")
    ada.click(0.5, 0.5)
    ada.kept()
    score = ada.page.locator("#candidates button").first.text_content()
    clicked = ada.seen()
    ada.page.reload()
    ada.ready().shows(FIRST)
    expect(ada.page.locator("#candidates button")).to_have_text([str(score)])
    ada.press("Enter")
    ada.saved()
    ((iou, area),) = told(config, "SELECT predicted_iou, area FROM annotations")
    assert (f"1  ·  {iou:.2f}", area) == (score, clicked.sum())


def test_what_was_erased_before_a_reload_does_not_show_below(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=ONE).address, "Ada")
    draw(ada, (0.1, 0.5), (0.9, 0.5))
    ada.press("Enter", "j", "e")
    ada.drag((0.1, 0.5), (0.5, 0.5))
    ada.kept()
    assert not ada.page.evaluate(_SHOWN_BELOW)
    ada.page.reload()
    ada.ready()
    assert not ada.page.evaluate(_SHOWN_BELOW)
    ada.press("Escape")
    assert ada.page.evaluate(_SHOWN_BELOW)


def test_what_was_undone_is_in_nobodys_way(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    ada = sit_down(browser, running(config, images=THREE).address, "Ada")
    draw(ada)
    ada.press("z", "n")
    ada.shows(SECOND)
    ada.saved()
    assert told(config, "SELECT count(*) FROM annotations") == [(0,)]


def test_nothing_is_drawn_on_an_image_that_is_done(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    ada = sit_down(browser, running(config, images=THREE).address, "Ada")
    ada.saved()
    with held(ada.page, "**/api/sessions/**"):
        ada.press("n")
        expect(ada.page.locator("#finish")).to_be_disabled()
        draw(ada)
        ada.press("Enter")
    ada.shows(SECOND)
    ada.saved()
    assert told(config, "SELECT action FROM events ORDER BY sequence") == [("open",), ("finish",), ("open",)]


def test_proposals_become_one_mask_each_in_two_tabs(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    """One tab changes the proposal, the other, which does not know, accepts it untouched."""
    add_run(config)
    ada = sit_down(browser, running(config, stage="semi-automatic", images=ONE).address, "Ada")
    other = Person(ada.page.context.new_page())
    other.page.goto(ada.page.url)
    other.ready().shows(FIRST)
    ada.press("j")
    draw(ada, (0.7, 0.2), (0.9, 0.2))
    changed = ada.seen()
    ada.press("Enter")
    ada.saved()
    for tab in (other, ada):
        tab.press("n")
        expect(tab.page.locator("#image-name")).to_have_text("Nothing left to do")
        tab.saved()
    assert told(config, "SELECT area FROM annotations") == [(changed.sum(),)]


def test_a_mask_in_work_becomes_one_mask_in_two_tabs(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    """A second tab goes on with the draft of the first, which has it before its eyes still."""
    ada = sit_down(browser, running(config, images=ONE).address, "Ada")
    draw(ada)
    ada.kept()
    other = Person(ada.page.context.new_page())
    other.page.goto(ada.page.url)
    other.ready().shows(FIRST)
    assert other.seen().any()
    for tab in (other, ada):
        tab.press("Enter")
        tab.saved()
        draw(tab, (0.2, 0.8), (0.6, 0.8))
        tab.press("Enter")
        tab.saved()
    assert told(config, "SELECT count(*) FROM annotations") == [(3,)]


def test_a_mask_bears_the_model_whose_answer_it_began_as(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """Which need not be the one that assists: another one made the run, and Bob clicked with another one before."""
    add_run(config)
    address = running(config, stage="semi-automatic", images=THREE).address
    (image,) = told(config, ONE)[0]
    of_bob = mask_row(image, blob(48, 64), model_id="other-1", clicks=1)
    httpx.put(f"{address}/api/sessions/s/parts/1", json=body("Bob", [of_bob])).raise_for_status()
    ada = sit_down(browser, address, "Ada")
    ada.press("j")
    draw(ada, (0.7, 0.2), (0.9, 0.2))
    ada.press("Enter", "n")
    ada.shows(SECOND)
    ada.press("j", "p")
    ada.click(0.3, 0.3)
    ada.press("Enter", "k")
    ada.shows("photo-002.png")
    ada.saved()
    found = told(config, "SELECT mask_id = 'm1', clicks, brushed > 0, model_id FROM annotations ORDER BY ALL")
    assisting = find_model(config.model).model_id
    assert found == [(False, 0, False, "fake-1"), (False, 1, False, assisting), (True, 0, True, "other-1")]


def finish_many(ada: Person, config: AnnotateConfig, count: int, **other: Any) -> None:
    """Accept so many copies of one proposal."""

    def multiply(route: Any) -> None:
        (mask,) = route.fetch().json()
        route.fulfill(json=[mask | other | {"mask_id": f"{mask['mask_id']}.{n}"} for n in range(count)])

    ada.page.route("**/masks", multiply)
    ada.page.reload()
    ada.ready().shows(FIRST)
    ada.press("n")
    expect(ada.page.locator("#image-name")).to_have_text("Nothing left to do")
    ada.saved()
    assert told(config, "SELECT count(*) FROM annotations") == [(count,)]
    assert told(config, "SELECT count(*) FROM events WHERE action = 'finish'") == [(1,)]


def test_more_masks_than_a_save_may_hold(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    add_run(config)
    ada = sit_down(browser, running(config, stage="semi-automatic", images=ONE).address, "Ada")
    finish_many(ada, config, 5_100)


def test_no_save_is_larger_than_what_proxies_take(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    """Some 3 KB each, so that the masks of one save would be 1.8 MB."""
    add_run(config)
    ada = sit_down(browser, running(config, stage="semi-automatic", images=ONE).address, "Ada")
    sizes: list[int] = []
    ada.page.on("request", lambda request: sizes.append(len(request.post_data_buffer or b"")))
    finish_many(ada, config, 600, rle=encode(np.indices((48, 64)).sum(0) % 2 == 0).decode())
    assert sum(sizes) > 1_700_000
    assert max(sizes) < 1_000_000


def test_another_token_is_said_and_the_saves_wait_for_it(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=THREE).address, "Ada")
    ada.saved()
    refusal = {"detail": "a token is needed"}
    ada.page.route("**/api/**", lambda route: route.fulfill(status=401, json=refusal))
    draw(ada)
    ada.press("Enter")
    expect(ada.page.locator("#saved")).to_have_text("this server asks for another token: 1 saves kept here")
    ada.page.reload()
    expect(ada.page.locator("#message")).to_contain_text("This page could not start: a token is needed")
    ada.page.unroute("**/api/**")
    ada.page.reload()
    ada.ready().saved()
    assert told(config, "SELECT count(*) FROM annotations") == [(1,)]


def test_a_new_token_counts_in_a_tab_that_is_open_already(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """Browsers load nothing anew for an address that differs behind the # alone."""
    address = f"{running(config, images=THREE).address}/?decoder=wasm"
    ada, token = Person(new_page(browser)), "first"

    def ask_for_token(route: Route) -> None:
        if route.request.headers.get("authorization") == f"Bearer {token}":
            route.continue_()
        else:
            route.fulfill(status=401, json={"detail": "a token is needed"})

    ada.page.route("**/api/**", ask_for_token)
    ada.page.goto(address)
    expect(ada.page.locator("#message")).to_contain_text("This page could not start: a token is needed")
    ada.page.goto(f"{address}#token=first")
    ada.sign_in()
    ada.ready().saved()
    assert ada.page.url == address
    token = "second"
    ada.brush((0.2, 0.2), (0.6, 0.6))
    expect(ada.page.locator("#saved")).to_have_text("this server asks for another token: 1 saves kept here")
    ada.page.goto(f"{address}#token=second")
    ada.saved()
    assert told(config, "SELECT count(*) FROM annotations") == [(1,)]


@pytest.mark.parametrize("fragment", ["", "#token=secret"])
def test_a_browser_that_may_keep_nothing_is_told_what_to_allow(
    browser: Browser, running: Start, config: AnnotateConfig, fragment: str
) -> None:
    """Cookies that are blocked block all else that a page keeps, and no reload changes that."""
    page = new_page(browser)
    page.add_init_script(f"({_MAY_KEEP_NOTHING})()")
    page.goto(f"{running(config).address}/{fragment}")
    expect(page.locator("#message")).to_have_text(
        "This page could not start: the browser blocks cookies and site data here. Allow them, then reload it."
    )


def test_a_window_of_another_size_still_shows_the_whole_picture(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=THREE).address, "Ada")
    ada.page.set_viewport_size({"width": 800, "height": 600})
    inside = """() => {
      const [photo, view] = ["photo", "viewport"].map((id) => document.getElementById(id).getBoundingClientRect());
      return photo.left >= view.left && photo.right <= view.right && photo.bottom <= view.bottom;
    }"""
    ada.page.wait_for_function(inside)
    name = ada.page.locator("#image-name").bounding_box()
    assert name is not None
    assert (name["width"] >= 80, name["height"] < 30) == (True, True)


def test_zooming_out_of_a_panorama_makes_it_no_larger(
    browser: Browser, running: Start, config: AnnotateConfig, tmp_path: Path
) -> None:
    (tmp_path / "wide").mkdir()
    data = ingest_photo(tmp_path / "wide", "panorama", np.zeros((20, 30_000, 3), np.uint8))
    ada = sit_down(browser, running(config, dataset=str(data)).address, "Ada")

    def width() -> float:
        box = ada.page.locator("#photo").bounding_box()
        assert box is not None
        return box["width"]

    fitting = width()
    ada.press("-")
    assert width() <= fitting
    ada.press("+")
    assert fitting < width() < 2 * fitting
