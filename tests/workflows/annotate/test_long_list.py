"""The list of images of a large task, and that of the masks of a full image, in Chromium."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, expect

from sam_core.masks.rle import encode
from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, new_page, sit_down
from tests.workflows.annotate.conftest import Running, blob
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


def test_so_are_those_of_masks(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    """Thousands of rows cost milliseconds in every frame, and a second whenever one of them changes."""
    server = running(config, images=ONE)
    nothing = dict.fromkeys(("annotator", "source_mask_id", "model_id", "predicted_iou", "stability_score", "point"))
    masks = [
        nothing | {"mask_id": f"m{at}", "revision": 1, "rle": encode(blob(48, 64, at)).decode()} for at in range(900)
    ]
    page = new_page(browser, viewport={"width": 1100, "height": 720})
    page.route("**/masks", lambda route: route.fulfill(json=masks))
    page.goto(server.address)
    Person(page).sign_in().ready().shows(FIRST)
    rows = page.locator("#masks li")
    expect(page.locator("#list-title")).to_have_text("Masks 900")
    assert rows.count() <= 200
    rows.last.scroll_into_view_if_needed()
    expect(rows).to_have_count(400)
    page.locator("[data-mask=m300]").get_by_label("Hide mask").click()
    expect(page.locator("[data-mask=m300]").get_by_label("Show mask")).to_be_visible()  # the list stays where it was
    assert rows.count() == 400
    assert [row["id"] for row in page.evaluate("() => annotate.masks.saved")] == [mask["mask_id"] for mask in masks]
