"""What a quick person does while the app, in real Chromium, is still busy with what was asked of it before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, Page, Route, expect

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, at_next_save, held, new_page, sit_down
from tests.workflows.annotate.conftest import Running
from workflows.annotate.assets import Runtime
from workflows.annotate.commands import AnnotateConfig
from workflows.sql import connect

pytestmark = NEEDS_CHROMIUM
TWO = "SELECT image_id FROM images ORDER BY uri LIMIT 2"
FIRST, SECOND = "photo-000.png", "photo-001.png"
SAVES = "**/api/sessions/**"
Start = Callable[..., Running]
_TELL_LATE = """(begun) => Object.defineProperty(begun, "oncomplete", { set(told) { window.tell = told; } })"""


def actions(config: AnnotateConfig, annotator: str) -> list[str]:
    """What a person did, in order."""
    query = "SELECT action FROM events WHERE annotator = ? ORDER BY sequence"
    return [action for (action,) in connect(config.dataset).execute(query, [annotator]).fetchall()]


def test_a_review_is_decided_only_once_its_image_is_there(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """Else it would be noted as opened after it was sent back, and the reviewer would be given it once more."""
    address = running(config, images=TWO).address
    ada, bob = (sit_down(browser, address, name) for name in ("Ada", "Bob"))
    ada.press("n")
    expect(ada.page.locator("#image-name")).to_have_text("Nothing left to do")
    bob.press("q")
    with held(bob.page, "**/picture"):
        bob.page.get_by_role("button", name=f"Review {FIRST}").click()
        expect(bob.page.locator("#send-back")).to_be_visible()
        for verdict in ("#accept", "#send-back"):
            expect(bob.page.locator(verdict)).to_be_disabled()
        bob.press("a")
    bob.shows(FIRST)
    bob.press("n", "k")  # to finish or skip an image is for those who draw it
    bob.page.locator("#send-back").click()
    bob.shows(SECOND)
    bob.saved()
    assert actions(config, "Bob") == ["open", "leave", "open", "send_back", "open"]


def test_an_image_chosen_while_another_opens_is_opened_after_it(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    with held(ada.page, "**/picture"):
        for name in (SECOND, FIRST):
            ada.press("q")
            ada.page.get_by_role("button", name=f"Open {name}").click()
    ada.shows(FIRST)
    ada.press("n")
    ada.shows(SECOND)
    ada.saved()
    assert actions(config, "Ada") == ["open", "leave", "open", "leave", "open", "finish", "open"]


def test_finishing_twice_at_once_finishes_one_image(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.saved()
    with held(ada.page, "**/api/sessions/**"):
        ada.press("n", "n")
    ada.shows(SECOND)
    ada.saved()
    assert actions(config, "Ada") == ["open", "finish", "open"]


def test_a_save_is_not_said_to_be_safe_before_it_is(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    ada = sit_down(browser, running(config).address, "Ada")
    ada.saved()
    ada.press("b")
    ada.drag((0.2, 0.2), (0.6, 0.6))
    said = "() => (document.getElementById('save-mask').click(), document.getElementById('saved').textContent)"
    assert ada.page.evaluate(said) == "saving 1"
    ada.saved()
    assert connect(config.dataset).execute("SELECT count(*) FROM annotations").fetchall() == [(1,)]


def faults_of(page: Page) -> list[Exception]:
    """Errors of a page that nothing caught, as they come."""
    faults: list[Exception] = []
    page.on("pageerror", lambda fault: faults.append(fault))
    return faults


def test_a_stroke_that_began_before_the_image_was_there_draws_nothing(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    faults = faults_of(ada.page)
    ada.saved()
    ada.press("b")
    ada.page.mouse.move(*ada.at(0.2, 0.2))
    to = ada.at(0.6, 0.6)
    with held(ada.page, "**/picture"):
        ada.press("n")
        ada.page.mouse.down()
    ada.shows(SECOND)
    ada.page.mouse.move(*to, steps=4)
    ada.page.mouse.up()
    ada.drag((0.2, 0.9), (0.6, 0.9))
    assert (ada.seen()[:24].any(), ada.seen()[24:].any(), faults) == (False, True, [])
    ada.press("Enter")
    ada.saved()
    assert actions(config, "Ada") == ["open", "finish", "open", "brush", "save_mask"]


def test_what_is_chosen_while_no_image_is_there_is_nothing(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    faults = faults_of(ada.page)
    ada.press("v")
    place = ada.at(0.5, 0.5)
    with held(ada.page, "**/picture"):
        ada.press("n")
        ada.page.mouse.click(*place)
    ada.shows(SECOND)
    assert faults == []


def test_nobody_is_reminded_of_a_mask_while_an_image_opens(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = Person(new_page(browser))
    faults = faults_of(ada.page)
    ada.page.clock.install()
    ada.page.goto(running(config, images=TWO, reminder_seconds=10).address)
    ada.sign_in()
    ada.ready().shows(FIRST)
    with held(ada.page, "**/picture"):
        ada.press("n")
        expect(ada.page.locator("#image-name")).to_contain_text(SECOND)
        ada.page.clock.fast_forward(20_000)
    ada.shows(SECOND)
    assert faults == []


def test_a_mask_that_was_saved_is_there_when_its_image_is_opened_again_meanwhile(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.saved()
    with held(ada.page, "**/picture"):
        with held(ada.page, "**/api/sessions/**"):
            ada.brush((0.2, 0.2), (0.6, 0.6))
            ada.press("q")
            with ada.page.expect_response("**/masks"):
                ada.page.get_by_role("button", name=f"Open {FIRST}").click()
        ada.saved()
    ada.shows(FIRST)
    expect(ada.page.locator("#masks li")).to_have_count(1)


def test_undo_shows_the_answer_to_a_click_that_the_next_one_overtook(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.click(0.3, 0.4)
    alone = ada.seen()
    ada.press("Escape")
    with held(ada.page, "**/api/decode"):
        for x in (0.3, 0.7):
            ada.page.mouse.click(*ada.at(x, 0.4))
    ada.answered()
    ada.press("z")
    ada.answered()
    assert alone.any()
    assert (ada.seen() == alone).all()


def test_a_reload_before_the_model_has_answered_asks_it_again(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.click(0.3, 0.4)
    alone = ada.seen()
    ada.press("Escape")
    ada.page.route("**/api/decode", lambda route: None)
    ada.page.mouse.click(*ada.at(0.3, 0.4))
    ada.kept()
    ada.page.unroute("**/api/decode")
    ada.page.reload()
    ada.ready().answered()
    assert alone.any()
    assert (ada.seen() == alone).all()


def test_not_all_is_saved_when_that_of_another_tab_is(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    """Tabs of one browser send for each other."""
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.saved()
    other = Person(ada.page.context.new_page())
    other.page.goto(ada.page.url)
    other.ready().saved()
    ada.page.route(SAVES, lambda route: route.abort())
    with ada.page.expect_request(SAVES) as first:
        ada.brush((0.2, 0.2), (0.6, 0.6))
    others: list[Route] = []

    def let_the_first_through(route: Route) -> None:
        if route.request.url == first.value.url:
            route.continue_()
        else:
            others.append(route)

    other.page.route(SAVES, let_the_first_through)
    with other.page.expect_request(lambda request: "/sessions/" in request.url and request.url != first.value.url):
        other.brush((0.3, 0.3), (0.7, 0.7))
    expect(other.page.locator("#saved")).to_have_text("saving 1")
    others[0].continue_()
    other.saved()


def test_a_deleted_mask_is_in_the_list_no_more(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    """Not even while the browser's store takes note of it: who hid it then would hide nothing."""
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.brush((0.2, 0.2), (0.6, 0.6))
    left = """() => {
      document.querySelector("[aria-label='Delete mask']").click();
      return document.querySelectorAll("#masks li").length;
    }"""
    assert ada.page.evaluate(left) == 0


def test_what_is_drawn_while_the_mask_before_is_being_kept_is_not_forgotten(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.saved()
    at_next_save(ada.page, _TELL_LATE)
    ada.brush((0.2, 0.2), (0.6, 0.2))
    ada.drag((0.2, 0.8), (0.6, 0.8))
    drawn = ada.seen()
    ada.kept()
    ada.page.evaluate("tell()")
    ada.saved()
    ada.page.reload()
    ada.ready()
    assert drawn.any()
    assert (ada.seen() == drawn).all()


def box_in_the_middle(person: Person) -> NDArray[np.bool_]:
    """What the model finds there; it is not kept."""
    person.drag((0.2, 0.2), (0.8, 0.8))
    person.answered()
    found = person.seen()
    person.press("Escape")
    return found


def test_an_embedding_that_comes_late_is_not_taken_for_that_of_the_next_image(
    browser: Browser, running: Start, config: AnnotateConfig, runtime: Runtime | None
) -> None:
    if runtime is None:
        pytest.skip("needs ONNX Runtime Web: npm, or SAM_ENGINE_ORT_WEB")
    ada = sit_down(browser, f"{running(config, runtime=runtime).address}/?decoder=wasm", "Ada")
    late: list[Route] = []
    ada.page.route("**/embedding", lambda route: route.continue_() if late else late.append(route))
    ada.page.route("**/picture", lambda route: route.fulfill(status=422, json={"detail": "no picture"}), times=1)
    ada.press("n")
    ada.shows("photo-002.png")
    ada.press("r")
    drawn = box_in_the_middle(ada)
    with ada.page.expect_event("requestfinished"):
        late[0].continue_()
    assert drawn.any()
    assert (box_in_the_middle(ada) == drawn).all()
