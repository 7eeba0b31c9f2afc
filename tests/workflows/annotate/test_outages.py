"""What the app, in real Chromium, makes of what is away: the server's store, the browser's own, or its GPU."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, Page, expect

from schemas.layout import masks_key
from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, at_next_save, held, new_page, sit_down
from tests.workflows.annotate.conftest import Running, add_run
from workflows.annotate.assets import Runtime
from workflows.annotate.commands import AnnotateConfig
from workflows.sql import connect

pytestmark = NEEDS_CHROMIUM
TWO = "SELECT image_id FROM images ORDER BY uri LIMIT 2"
FIRST, SECOND = "photo-000.png", "photo-001.png"
Start = Callable[..., Running]
_LOSE_THE_GPU = """async () => {
  const { env } = await import("/runtime/ort.webgpu.bundle.min.mjs");
  (await env.webgpu.device).destroy();
}"""
_KEEPS_NOTHING = """() => {
  IDBObjectStore.prototype.put = () => { throw new DOMException("the disk is full", "QuotaExceededError"); };
}"""
_CLOSE_WITHOUT_AN_END = """(begun, database) => {
  for (const end of ["oncomplete", "onabort"]) Object.defineProperty(begun, end, { set() {} });
  setTimeout(() => {
    window.isClosed = true;
    database.dispatchEvent(new Event("close"));
  });
}"""
_LOSE_THE_STORE = """() => {
  const lost = () => { throw new DOMException("Connection to Indexed Database server lost", "UnknownError"); };
  [IDBDatabase.prototype.transaction, IDBFactory.prototype.open] = [lost, lost];
}"""
_RELOAD_ONCE_KEPT = """(begun) => {
  Object.defineProperty(begun, "oncomplete", { set() {} });
  begun.addEventListener("complete", () => location.reload());
}"""


_COUNT_KEPT = """() => new Promise((resolve) => {
  const asked = indexedDB.open("sam-engine-annotate", 1);
  asked.onsuccess = () => {
    const count = asked.result.transaction("outbox").objectStore("outbox").count();
    count.onsuccess = () => resolve(count.result);
  };
})"""


def clear_site_data(page: Page) -> None:
    """As from the browser's settings, while the page is open."""
    about = {"origin": page.evaluate("origin"), "storageTypes": "indexeddb"}
    page.context.new_cdp_session(page).send("Storage.clearDataForOrigin", about)


@pytest.mark.parametrize("away", [{"status": 503, "json": {"detail": "no bucket"}}, {"status": 404, "body": "proxy"}])
def test_pictures_that_are_away_for_a_while_are_waited_for(
    browser: Browser, running: Start, config: AnnotateConfig, away: dict[str, Any]
) -> None:
    """A skipped image would never be offered to this person again."""
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.shows(FIRST)
    ada.page.route("**/picture", lambda route: route.fulfill(**away))
    with ada.page.expect_response("**/picture"):
        ada.press("n")
    expect(ada.page.locator("#image-name")).to_have_text("Waiting for the server")
    ada.page.unroute("**/picture")
    ada.shows(SECOND)
    ada.saved()
    query = "SELECT action FROM events ORDER BY sequence"
    assert connect(config.dataset).execute(query).fetchall() == [("open",), ("finish",), ("open",)]


@pytest.mark.parametrize(("times", "then"), [(1, "open"), (2, "skip")])
def test_an_image_at_which_the_server_fails_is_skipped_when_it_fails_again(
    browser: Browser, running: Start, config: AnnotateConfig, times: int, then: str
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.shows(FIRST)
    ada.page.route("**/picture", lambda route: route.fulfill(status=500, json={"detail": "a bug"}), times=times)
    ada.press("n")
    expect(ada.page.locator("#image-name")).to_have_text("Waiting for the server")
    if then == "open":
        ada.shows(SECOND)
    expect(ada.page.locator("#image-name")).to_contain_text(SECOND if then == "open" else "Nothing left to do")
    ada.saved()
    query = "SELECT action FROM events ORDER BY sequence"
    assert connect(config.dataset).execute(query).fetchall() == [("open",), ("finish",), (then,)]


def test_a_disk_that_is_not_mounted_skips_no_image(
    browser: Browser, running: Start, config: AnnotateConfig, ingested: Path
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.shows(FIRST)
    photos = ingested.with_name("photos")
    away = photos.rename(photos.with_suffix(".away"))
    ada.press("n")
    expect(ada.page.locator("#image-name")).to_have_text("Waiting for the server")
    expect(ada.page.locator("#message")).to_contain_text(f"{photos / SECOND}: no such file")
    away.rename(photos)
    ada.shows(SECOND)
    ada.saved()
    query = "SELECT action FROM events ORDER BY sequence"
    assert connect(config.dataset).execute(query).fetchall() == [("open",), ("finish",), ("open",)]


def test_proposals_that_are_away_for_a_while_are_waited_for(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """They come through DuckDB, which shows a traceback where their file cannot be read."""
    add_run(config)
    server = running(config, stage="semi-automatic", images=TWO)
    masks = Path(config.dataset, masks_key("run", 0))
    away = masks.rename(masks.with_suffix(".away"))
    ada = new_page(browser)
    ada.goto(server.address)
    ada.fill("#name", "Ada")
    with ada.expect_response("**/masks") as answer:
        ada.press("#name", "Enter")
    assert (answer.value.status, masks.name in answer.value.json()["detail"]) == (503, True)
    expect(ada.locator("#image-name")).to_have_text("Waiting for the server")
    away.rename(masks)
    Person(ada).shows(FIRST)


def test_a_page_that_is_loaded_while_pictures_are_away_says_so(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.shows(FIRST)
    ada.page.route("**/picture", lambda route: route.fulfill(status=503, json={"detail": "the bucket does not answer"}))
    ada.page.reload()
    expect(ada.page.locator("#image-name")).to_have_text("Waiting for the server")
    expect(ada.page.locator("#message")).to_contain_text(
        "the bucket does not answer; your work is kept here. This page goes on when it is back"
    )
    ada.page.unroute("**/picture")
    ada.shows(FIRST)


def test_what_a_full_disk_does_not_take_is_sent_from_memory(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config).address, "Ada")
    ada.saved()
    ada.page.evaluate(_KEEPS_NOTHING)
    ada.page.route("**/api/sessions/**", lambda route: route.abort())
    ada.brush((0.2, 0.2), (0.6, 0.6))
    expect(ada.page.locator("#saved")).to_contain_text("keeps nothing (the disk is full): leave this page open")
    ada.page.unroute("**/api/sessions/**")
    ada.saved()
    connection = connect(config.dataset)
    assert connection.execute("SELECT count(*) FROM annotations").fetchall() == [(1,)]
    assert ("save_mask",) in connection.execute("SELECT action FROM events").fetchall()


def test_a_store_that_the_browser_closes_is_opened_anew(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """As when site data is cleared under an open page, or Safari comes back from the background."""
    server = running(config)
    ada = sit_down(browser, server.address, "Ada")
    ada.saved()
    clear_site_data(ada.page)
    ada.brush((0.2, 0.2), (0.6, 0.6))
    ada.drag((0.3, 0.7), (0.7, 0.7))
    drawn = ada.seen()
    ada.kept()
    ada.saved()
    ada.page.reload()
    ada.ready()
    assert (ada.seen() == drawn).all()
    assert connect(config.dataset).execute("SELECT count(*) FROM annotations").fetchall() == [(1,)]


def test_what_waits_for_the_server_outlives_the_browsers_store(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    server = running(config)
    ada = sit_down(browser, server.address, "Ada")
    ada.saved()
    ada.page.route("**/api/sessions/**", lambda route: route.abort())
    ada.brush((0.2, 0.2), (0.6, 0.6))
    expect(ada.page.locator("#saved")).to_have_text("server away: 1 saves kept here")
    clear_site_data(ada.page)
    ada.page.unroute("**/api/sessions/**")
    ada.saved()
    assert connect(config.dataset).execute("SELECT count(*) FROM annotations").fetchall() == [(1,)]


def test_a_save_goes_on_whose_end_the_browser_never_tells(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """As Chromium leaves what was begun just before site data is cleared."""
    ada = sit_down(browser, running(config).address, "Ada")
    ada.saved()
    at_next_save(ada.page, _CLOSE_WITHOUT_AN_END)
    ada.brush((0.2, 0.2), (0.6, 0.6))
    ada.saved()
    assert ada.page.evaluate("isClosed")
    assert connect(config.dataset).execute("SELECT count(*) FROM annotations").fetchall() == [(1,)]


def test_a_page_that_ends_as_a_mask_is_kept_has_it_once(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """As a saved mask, and no more as the mask in work, which would be saved once more."""
    ada = sit_down(browser, running(config).address, "Ada")
    ada.saved()
    ada.press("b")
    ada.drag((0.2, 0.2), (0.6, 0.6))
    ada.kept()
    at_next_save(ada.page, _RELOAD_ONCE_KEPT)
    with ada.page.expect_navigation():
        ada.press("Enter")
    ada.ready().saved()
    expect(ada.page.locator("#masks li")).to_have_count(1)
    assert not ada.seen().any()


def test_a_store_that_is_lost_until_a_reload_stops_nothing(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """As WebKit loses it: nothing opens it again in this page."""
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.saved()
    ada.page.evaluate(_LOSE_THE_STORE)
    ada.brush((0.2, 0.2), (0.6, 0.6))
    ada.saved()
    ada.press("n")
    ada.shows(SECOND)
    ada.saved()
    connection = connect(config.dataset)
    assert connection.execute("SELECT count(*) FROM annotations").fetchall() == [(1,)]
    assert connection.execute("SELECT count(*) FROM events WHERE action = 'finish'").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("status", "why"),
    [(413, "a proxy takes no save of this size")]
    + [(status, "server away") for status in (200, 400, 403, 404, 409, 422, 429)],
)
def test_saves_wait_where_another_program_answers_for_the_server(
    browser: Browser, running: Start, config: AnnotateConfig, status: int, why: str
) -> None:
    """A proxy, what took the port of a server that has ended, or a network that asks to log in (200). Saves that count
    as refused or as kept are never sent again."""
    ada = sit_down(browser, running(config).address, "Ada")
    ada.saved()
    ada.page.route("**/api/**", lambda route: route.fulfill(status=status, body="not here"))
    ada.brush((0.2, 0.2), (0.6, 0.6))
    expect(ada.page.locator("#saved")).to_have_text(f"{why}: 1 saves kept here")
    ada.page.unroute("**/api/**")
    ada.saved()
    assert connect(config.dataset).execute("SELECT count(*) FROM annotations").fetchall() == [(1,)]


def test_what_is_refused_stays_where_it_was_when_the_disk_has_no_room_to_lay_it_aside(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    ada = sit_down(browser, running(config).address, "Ada")
    ada.saved()
    with held(ada.page, "**/api/sessions/**"):
        ada.brush((0.2, 0.2), (0.6, 0.6))
    ada.saved()
    ada.page.route("**/api/sessions/**", lambda route: route.abort())
    ada.drag((0.3, 0.3), (0.7, 0.7))
    ada.press("Enter")
    expect(ada.page.locator("#saved")).to_contain_text("1 saves kept here")
    ada.page.evaluate(_KEEPS_NOTHING)
    ada.page.route("**/api/sessions/**", lambda route: route.fulfill(status=422, json={"detail": "no"}))
    expect(ada.page.locator("#saved")).to_have_text("the server refused a save: no")
    assert ada.page.evaluate(_COUNT_KEPT) == 1


def test_a_clock_that_is_put_right_dates_nothing_into_another_year(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """What was done in the future would count after all that others do to the image since."""
    ada = sit_down(browser, running(config).address, "Ada")
    ada.saved()
    ada.page.evaluate("() => { const { now } = Date; Date.now = () => now.call(Date) + 365 * 86_400_000; }")
    ada.press("b")
    for shift in (0, 0.2):
        ada.drag((0.2 + shift, 0.2), (0.4 + shift, 0.6))
        ada.press("Enter")
        ada.saved()
    ((moment,),) = connect(config.dataset).execute("SELECT min(created_at) FROM annotations").fetchall()
    assert abs(moment.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=10)


@pytest.mark.slow
def test_the_server_decodes_when_the_gpu_is_lost(
    browser: Browser, running: Start, config: AnnotateConfig, runtime: Runtime | None
) -> None:
    """As when a laptop slept: the click at hand is answered all the same, and the next image opens."""
    if runtime is None:
        pytest.skip("needs ONNX Runtime Web: npm, or SAM_ENGINE_ORT_WEB")
    ada = sit_down(browser, f"{running(config, images=TWO, runtime=runtime).address}/?decoder=webgpu", "Ada")
    ada.shows(FIRST)
    decoder = ada.page.locator("#decoder")
    expect(decoder).to_contain_text("on the GPU")
    ada.page.workers[0].evaluate(_LOSE_THE_GPU)
    with ada.page.expect_response("**/api/decode"):
        ada.click(0.5, 0.5)
    expect(decoder).to_have_text("decoding on the server")
    expect(ada.page.locator("#message")).to_contain_text("The decoder in this browser failed")
    ada.press("n")
    ada.shows(SECOND)


def test_a_worker_that_could_not_be_loaded_is_begun_anew(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """As when the server went away while the page was loaded: it draws what the server answers, too."""
    ada = Person(new_page(browser))
    ada.page.route("**/decoder_worker.js", lambda route: route.abort(), times=1)
    with ada.page.expect_event("requestfailed"):
        ada.page.goto(running(config).address)
        ada.sign_in()
    ada.ready().click(0.5, 0.5)
    assert ada.seen().any()


def test_a_decoder_that_never_starts_is_not_waited_for(
    browser: Browser, running: Start, config: AnnotateConfig, runtime: Runtime | None
) -> None:
    """As of a browser that never says whether it has a GPU: without the decoder no image would open."""
    if runtime is None:
        pytest.skip("needs ONNX Runtime Web: npm, or SAM_ENGINE_ORT_WEB")
    ada = Person(new_page(browser))
    ada.page.clock.install()
    ada.page.route("**/runtime/**", lambda _route: None)
    with ada.page.expect_request("**/runtime/**"):
        ada.page.goto(running(config, runtime=runtime).address)
        ada.sign_in()
    ada.page.clock.fast_forward(120_000)
    ada.ready().click(0.5, 0.5)
    expect(ada.page.locator("#decoder")).to_have_text("decoding on the server")
    assert ada.seen().any()


def test_an_image_that_somebody_holds_does_not_cost_the_one_at_hand(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    server = running(config, images=TWO)
    ada, bob = (sit_down(browser, server.address, name) for name in ("Ada", "Bob"))
    bob.shows(SECOND)
    ada.press("q")
    ada.page.get_by_role("button", name=f"Open {SECOND}").click()
    expect(ada.page.locator("#message")).to_contain_text("Bob is working on this image")
    ada.shows(FIRST)
    items = new_page(browser).request.get(f"{server.address}/api/queue").json()
    assert [(item["annotator"], item["held"]) for item in items] == [("Ada", True), ("Bob", True)]


def test_an_image_of_the_list_that_is_gone_gives_way_to_the_next(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """And no other picture stands under its name; one that is reviewed is not skipped by it."""
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.shows(FIRST)
    gone = {"detail": "no such file"}
    ada.page.route("**/picture", lambda route: route.fulfill(status=422, json=gone), times=1)
    ada.press("q")
    ada.page.get_by_role("button", name=f"Open {SECOND}").click()
    expect(ada.page.locator("#message")).to_have_text(f"{SECOND} is skipped: no such file")
    ada.shows(FIRST)
    ada.press("n")
    expect(ada.page.locator("#image-name")).to_have_text("Nothing left to do")
    ada.page.route("**/picture", lambda route: route.fulfill(status=422, json=gone), times=1)
    ada.press("q")
    ada.page.get_by_role("button", name=f"Review {FIRST}").click()
    expect(ada.page.locator("#message")).to_have_text(f"{FIRST} cannot be opened: no such file")
    expect(ada.page.locator("#image-name")).to_have_text("Nothing left to do")
    ada.saved()
    query = "SELECT action FROM events WHERE details ->> 'reason' IS NOT NULL ORDER BY sequence"
    assert connect(config.dataset).execute(query).fetchall() == [("skip",), ("leave",)]


def test_an_image_of_the_list_is_waited_for(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    ada = sit_down(browser, running(config, images=TWO).address, "Ada")
    ada.shows(FIRST)
    ada.page.route("**/picture", lambda route: route.abort())
    ada.press("q")
    ada.page.get_by_role("button", name=f"Open {SECOND}").click()
    expect(ada.page.locator("#image-name")).to_have_text("Waiting for the server")
    ada.page.unroute("**/picture")
    ada.shows(SECOND)
