"""What the app, in real Chromium, makes of a server that takes requests and answers none, as a computer that sleeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, expect

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, new_page
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig
from workflows.sql import connect

pytestmark = NEEDS_CHROMIUM
TWO = "SELECT image_id FROM images ORDER BY uri LIMIT 2"
FIRST, SECOND = "photo-000.png", "photo-001.png"
QUICK = 121_000
"""Milliseconds, of the page's own clock: more than what asks nothing of a model may take."""
WORK = 601_000
Start = Callable[..., Running]


@pytest.fixture
def ada(browser: Browser, running: Start, config: AnnotateConfig) -> Person:
    """At the first of two images, with a clock that tests put forward."""
    page = new_page(browser)
    page.clock.install()
    page.goto(running(config, images=TWO).address)
    ada = Person(page).sign_in().ready()
    ada.shows(FIRST)
    ada.saved()
    return ada


def silent(ada: Person, url: str) -> None:
    """Requests that come to nobody, until `unroute`."""
    ada.page.route(url, lambda _route: None)


def test_a_save_is_sent_again(ada: Person, config: AnnotateConfig) -> None:
    """All later ones, and the next image, wait for it."""
    silent(ada, "**/api/sessions/**")
    with ada.page.expect_request("**/api/sessions/**"):
        ada.brush((0.2, 0.2), (0.6, 0.6))
    ada.page.clock.fast_forward(QUICK)
    expect(ada.page.locator("#saved")).to_have_text("server away: 1 saves kept here")
    ada.page.unroute("**/api/sessions/**")
    ada.page.clock.fast_forward(QUICK)
    ada.saved()
    assert connect(config.dataset).execute("SELECT count(*) FROM annotations").fetchall() == [(1,)]


@pytest.mark.parametrize(("asked", "longest"), [("**/queue/next", QUICK), ("**/picture", WORK), ("**/masks", WORK)])
def test_the_next_image_is_asked_for_again(ada: Person, asked: str, longest: int) -> None:
    silent(ada, asked)
    with ada.page.expect_request(asked):
        ada.press("n")
    ada.page.clock.fast_forward(longest)
    expect(ada.page.locator("#image-name")).to_have_text("Waiting for the server")
    ada.page.unroute(asked)
    ada.page.clock.fast_forward(QUICK)
    ada.shows(SECOND)


def test_a_list_that_does_not_come_is_said(ada: Person) -> None:
    silent(ada, "**/api/queue")
    with ada.page.expect_request("**/api/queue"):
        ada.press("q")
    ada.page.clock.fast_forward(WORK)
    expect(ada.page.locator("#message")).to_have_text("the server has not answered for 600 s")
