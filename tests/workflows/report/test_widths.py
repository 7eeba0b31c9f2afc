"""The page in a real browser, in windows as wide as people have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright", reason="needs Playwright")

from dataclasses import replace

from schemas.layout import round_key
from schemas.records import to_json
from tests.schemas.rows import new_dataset, put
from tests.workflows.annotate.browser import NEEDS_CHROMIUM, chromium, new_page
from tests.workflows.report.data_sets import DataSet, photos
from tests.workflows.report.test_rounds import ROUND
from workflows.report import write_report

pytestmark = NEEDS_CHROMIUM
_FRACTIONS = ("base_miou", "held_out_miou", "average_recall", "prefill_precision", "prefill_recall")
_NUMBERS = ("masks_per_image", "clicks_per_mask", "seconds_per_mask", "clicks_to_090", "human_hours", "machine_hours")
_HIDDEN = """() => {
  const table = document.querySelector("#rounds .card > .scroll");
  return table.scrollWidth - table.clientWidth;
}"""

_PLACES = """(side) =>
  [...document.querySelectorAll("#gallery .shot label")].map((each) => each.getBoundingClientRect()[side])
"""


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


def test_a_picture_alone_in_the_last_row_is_not_larger_than_others(empty_set: DataSet, tmp_path: Path) -> None:
    empty_set.add_images(photos(tmp_path / "photos", 7, rng=np.random.default_rng(0)))
    write_report(str(empty_set.root), tmp_path / "report.html")
    with chromium() as browser:
        page = new_page(browser)
        page.goto((tmp_path / "report.html").as_uri())
        page.set_viewport_size({"width": 1280, "height": 700})
        tops, heights = (page.evaluate(_PLACES, side) for side in ("top", "height"))
    assert tops[-1] > tops[-2]
    assert 240 <= heights[-1] <= heights[0]
