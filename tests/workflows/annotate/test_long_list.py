"""The list of images of a large task, in Chromium."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, expect

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, sit_down
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig

pytestmark = NEEDS_CHROMIUM
IMAGES = 20_000
ONE = "SELECT image_id FROM images ORDER BY uri LIMIT 1"
FIRST = "photo-000.png"
Start = Callable[..., Running]


def test_rows_are_made_as_they_are_scrolled_to(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    """A browser that made those of all images of a large task would stand still for a minute."""
    server = running(config, images=ONE)
    ada = sit_down(browser, server.address, "Ada")
    ada.shows(FIRST)
    (known,) = ada.page.request.get(f"{server.address}/api/queue").json()
    items = [known | {"name": f"made-up-{number}.png"} for number in range(IMAGES)]
    ada.page.route("**/api/queue", lambda route: route.fulfill(json=items))
    ada.press("q")
    rows = ada.page.locator("#queue-rows tr")
    expect(ada.page.locator("#queue-summary")).to_contain_text(f"{IMAGES}")
    assert rows.count() <= 1000
    for _ in range(3):
        before = rows.count()
        rows.last.scroll_into_view_if_needed()
        expect(rows).not_to_have_count(before)
    assert rows.count() < IMAGES
    names = rows.locator("td:first-child").all_inner_texts()
    assert names == [item["name"] for item in items[: len(names)]]
