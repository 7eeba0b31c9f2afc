"""Pages that nobody works at, in Chromium: what becomes free comes to who waits, and nobody waits for who has gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, expect

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, new_page, sit_down
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig

pytestmark = NEEDS_CHROMIUM
ONE = "SELECT image_id FROM images ORDER BY uri LIMIT 1"
FIRST = "photo-000.png"
NOTHING = "Nothing left to do"
LEASE = "**/lease"
Start = Callable[..., Running]


def come_back(person: Person) -> None:
    """As the window says when somebody turns to it again; the page asks by itself, too, but later."""
    person.page.evaluate("dispatchEvent(new Event('focus'))")


def test_what_somebody_gives_up_comes_to_who_waits(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    address = running(config, images=ONE).address
    ada, bob = (sit_down(browser, address, name) for name in ("Ada", "Bob"))
    name = bob.page.locator("#image-name")
    expect(name).to_have_text(NOTHING)
    ada.press("k")
    expect(ada.page.locator("#image-name")).to_have_text(NOTHING)
    come_back(bob)
    bob.shows(FIRST)
    come_back(ada)  # who skipped it does not get it
    expect(ada.page.locator("#image-name")).to_have_text(NOTHING)


def test_who_has_done_all_goes_on_in_the_next_round(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    server = running(config, images=ONE, round=1)
    ada = sit_down(browser, server.address, "Ada")
    ada.press("n")
    expect(ada.page.locator("#image-name")).to_have_text(NOTHING)
    server.stop()
    come_back(ada)
    expect(ada.page.locator("#image-name")).to_have_text(NOTHING)
    server.config = AnnotateConfig(dataset=config.dataset, model=config.model, threads=1, round=2, images=ONE)
    server.start()
    come_back(ada)
    ada.shows(FIRST)
    expect(ada.page.locator("#dataset")).to_contain_text("round 2")


def test_a_page_that_was_left_open_does_not_hold_its_image_for_ever(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    page = new_page(browser)
    page.clock.install()
    page.goto(running(config, images=ONE).address)
    ada = Person(page).sign_in().ready()
    holds: list[str] = []
    page.on("request", lambda request: holds.append(request.url) if request.url.endswith("/lease") else None)
    for works in (True, False, True):
        if works:
            ada.press("m")
            with page.expect_request(LEASE):
                page.clock.run_for(60_000)
        else:
            page.clock.run_for(60_000)
    assert len(holds) == 2
