"""The page in a real browser, in windows as wide as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="needs Playwright")

from dataclasses import replace

from schemas.layout import round_key
from schemas.records import to_json
from tests.schemas.rows import new_dataset, put
from tests.workflows.annotate.browser import NEEDS_CHROMIUM, chromium, new_page
from tests.workflows.report.test_rounds import ROUND
from workflows.report import write_report

pytestmark = NEEDS_CHROMIUM
_FRACTIONS = ("base_miou", "held_out_miou", "average_recall", "prefill_precision", "prefill_recall")
_NUMBERS = ("masks_per_image", "clicks_per_mask", "seconds_per_mask", "clicks_to_090", "human_hours", "machine_hours")
_HIDDEN = """() => {
  const table = document.querySelector("#rounds .card > .scroll");
  return table.scrollWidth - table.clientWidth;
}"""


def test_the_table_of_rounds_is_not_cut_off(tmp_path: Path) -> None:
    metrics = dict.fromkeys(_FRACTIONS, 0.5432) | dict.fromkeys(_NUMBERS, 12.34) | {"images": 4, "cost": 1234.5}
    root = new_dataset(tmp_path / "data")
    put(root, round_key(1), to_json(replace(ROUND, metrics=metrics)))
    write_report(str(root), tmp_path / "report.html")
    with chromium() as browser:
        page = new_page(browser)
        page.goto((tmp_path / "report.html").as_uri())
        for width in (800, 980, 1100, 1300):
            page.set_viewport_size({"width": width, "height": 700})
            assert page.evaluate(_HIDDEN) == 0, width
