"""What becomes of work, in real Chromium, while the server is exchanged for one of another round, stage or data set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="needs playwright, which the extra `dev` brings")

from playwright.sync_api import Browser, expect

from schemas.layout import DATASET_KEY
from tests.workflows.annotate.browser import NEEDS_CHROMIUM, Person, sit_down
from tests.workflows.annotate.conftest import Running
from workflows.annotate.commands import AnnotateConfig
from workflows.sql import connect

pytestmark = NEEDS_CHROMIUM
ONE = "SELECT image_id FROM images ORDER BY uri LIMIT 1"
TWO = "SELECT image_id FROM images ORDER BY uri LIMIT 2"
LAST = "SELECT image_id FROM images ORDER BY uri DESC LIMIT 1"
FIRST, FOURTH = "photo-000.png", "photo-003.png"
Start = Callable[..., Running]


def draw(person: Person) -> None:
    """A mask in work, by the brush."""
    person.press("b")
    person.drag((0.2, 0.2), (0.6, 0.6))


def begins(person: Person, task: str, image: str) -> None:
    """Wait until the page is that of a task."""
    expect(person.page.locator("#dataset")).to_contain_text(task)
    person.shows(image)


def exchange(server: Running, **changes: Any) -> None:
    """Another server at the same address."""
    server.stop()
    server.config = replace(server.config, **changes)
    server.start()


def at_work(browser: Browser, running: Start, config: AnnotateConfig, images: str) -> tuple[Running, Person]:
    """Ada in the first round, and all that is known of her saved."""
    server = running(config, round=1, images=images)
    ada = sit_down(browser, server.address, "Ada")
    ada.saved()
    return server, ada


def told(config: AnnotateConfig, columns: str, table: str = "events") -> list[tuple[Any, ...]]:
    order = "happened_at" if table == "events" else "created_at"
    return connect(config.dataset).execute(f"SELECT {columns} FROM {table} ORDER BY {order}").fetchall()


def test_a_save_that_waited_is_kept_under_the_round_that_it_was_drawn_in(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    server, ada = at_work(browser, running, config, ONE)
    server.stop()
    draw(ada)
    ada.press("Enter", "n")
    expect(ada.page.locator("#saved")).to_contain_text("kept here")
    exchange(server, round=2, images=LAST)
    begins(ada, "round 2", FOURTH)
    ada.saved()
    assert told(config, "stage, round", "annotations") == [("assisted_manual", 1)]
    assert told(config, "round, action") == [(1, "open"), (1, "brush"), (1, "save_mask"), (1, "finish"), (2, "open")]


def test_finishing_an_image_in_one_round_does_not_finish_it_in_the_next(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    server, ada = at_work(browser, running, config, TWO)
    server.stop()
    ada.press("n")
    exchange(server, round=2)
    begins(ada, "round 2", FIRST)
    ada.saved()
    assert told(config, "round, action") == [(1, "open"), (1, "finish"), (2, "open")]


def test_clicks_on_an_image_of_another_task_are_not_answered_and_nothing_is_lost(
    browser: Browser, running: Start, config: AnnotateConfig
) -> None:
    """The server decodes here: its model may be another one than the mask would be noted under."""
    server, ada = at_work(browser, running, config, ONE)
    exchange(server, round=2)
    ada.click(0.5, 0.5)
    told_so = "another task now (assisted manual, round 2); save, then reload"
    expect(ada.page.locator("#message")).to_contain_text(told_so)
    ada.press("Escape")
    draw(ada)
    ada.press("Enter")
    ada.saved()
    assert told(config, "round", "annotations") == [(1,)]


def test_a_mask_in_work_goes_on_in_its_own_task_alone(browser: Browser, running: Start, config: AnnotateConfig) -> None:
    server = running(config, round=1, images=ONE)
    ada = sit_down(browser, server.address, "Ada")
    draw(ada)
    drawn = ada.seen()
    ada.kept()
    for number, stands in ((2, False), (1, True)):
        exchange(server, round=number)
        ada.page.reload()
        ada.ready().shows(FIRST)
        assert (ada.seen() == (drawn & stands)).all()


def test_saves_wait_for_a_server_of_their_own_data_set(
    browser: Browser, running: Start, config: AnnotateConfig, tmp_path: Path
) -> None:
    """Another data set of the same name, with the same photographs."""
    other = tmp_path / "other" / "data"
    shutil.copytree(config.dataset, other)
    record = other / DATASET_KEY
    record.write_text(record.read_text().replace('"created_at": "2', '"created_at": "1'))
    server = running(config)
    ada = sit_down(browser, server.address, "Ada")
    ada.saved()
    server.stop()
    draw(ada)
    ada.press("Enter")
    exchange(server, dataset=str(other))
    expect(ada.page.locator("#saved")).to_have_text("this server has another data set: 1 saves kept here")
    exchange(server, dataset=config.dataset)
    ada.saved()
    assert told(replace(config, dataset=str(other)), "*", "annotations") == []
    assert told(config, "annotator", "annotations") == [("Ada",)]
