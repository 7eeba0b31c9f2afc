"""The page in a real browser: plots are drawn, can be read, and answer to their buttons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="needs Playwright")

from playwright.sync_api import Browser, Page

from tests.workflows.annotate.browser import NEEDS_CHROMIUM, chromium, new_page
from tests.workflows.audit.conftest import Audited
from workflows.cli import main

pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def written(audited: Audited, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one run beside another."""
    out = tmp_path_factory.mktemp("browser") / "audit.html"
    arguments = ["audit", f"{audited.root}@first", "--against", f"{audited.root}@second", "--target", "0.8"]
    assert main([*arguments, "--out", str(out)]) == 0
    return out


@pytest.fixture
def page(browser: Browser, written: Path) -> Iterator[Page]:
    """The page as it opens, and no complaint of the browser until the end."""
    complaints: list[str] = []
    page = new_page(browser)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(written.as_uri())
    yield page
    page.context.close()
    assert complaints == []


def plot(page: Page, title: str) -> str:
    """The selector of a plot by its title."""
    return f'figure:has(h3:text-is("{title}")) .plotted'


def test_every_plot_is_drawn(page: Page) -> None:
    places = page.locator("[data-plot]").count()
    assert places > 10
    assert page.locator("[data-plot]:has(svg .mark, svg .line)").count() == places


def test_pointing_at_a_plot_reads_it(page: Page) -> None:
    sizes = plot(page, "Relative mask size")
    page.locator(f"{sizes} > svg").hover()
    words = page.locator(f"{sizes} .readout.on").inner_text()
    assert "first" in words
    assert "masks" in words
    page.locator(f"{sizes} > svg").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(f"{sizes} .readout.on").inner_text() != words


def test_a_data_set_can_be_left_out_but_not_all(page: Page) -> None:
    lines = page.locator(f"{plot(page, 'Coverage')} svg .line")
    buttons = page.locator("[data-series]")
    assert lines.count() == 2
    buttons.nth(0).click()
    assert lines.count() == 1
    buttons.nth(1).click()  # the last one stays
    assert lines.count() == 1
    buttons.nth(0).click()
    assert lines.count() == 2


def test_cumulative_shares_end_at_all(page: Page) -> None:
    sizes = plot(page, "Relative mask size")
    page.locator(f"{sizes} button", has_text="cumulative").click()
    box = page.locator(f"{sizes} > svg").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 16, box["y"] + 40)
    assert "100.0 %" in page.locator(f"{sizes} .readout.on").inner_text()


def test_the_slider_says_what_a_threshold_keeps(page: Page) -> None:
    slider = page.locator("[data-slider]").first
    said = page.locator("[data-curve] p.quiet").first
    before = said.inner_text()
    slider.focus()
    page.keyboard.press("End")
    assert said.inner_text() != before
    assert "kept" in said.inner_text()
    page.locator("[data-choice] button").nth(2).click()
    assert page.locator("[data-curve]").nth(2).is_visible()
    assert not page.locator("[data-curve]").nth(0).is_visible()


def test_the_colours_of_the_legend_are_printed(page: Page) -> None:
    """Browsers print no backgrounds unless a page asks for it."""
    page.emulate_media(media="print")
    printed = "each => each.map((one) => getComputedStyle(one).printColorAdjust)"
    assert set(page.locator(".swatch").evaluate_all(printed)) == {"exact"}


def test_the_legend_keeps_its_colours_where_colours_are_forced(page: Page) -> None:
    colours = "each => each.map((one) => getComputedStyle(one).backgroundColor)"
    before = page.locator(".swatch").evaluate_all(colours)
    page.emulate_media(forced_colors="active")
    assert page.locator(".swatch").evaluate_all(colours) == before
