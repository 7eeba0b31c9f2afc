"""What an export was asked for, found in the tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from tests.workflows.report.data_sets import DataSet, boxes, done, photos, run_record
from workflows.exchange.commands import ExportConfig
from workflows.exchange.selection import Selection


def test_masks_are_looked_through_once_before_the_first_page(tmp_path: Path, opened_files: list[str]) -> None:
    """Of thousands of shards each look takes many seconds, in which nothing is said."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    for shard, image_id in enumerate(sorted(data.add_images(photos(tmp_path / "photos", 3, rng=rng)))):
        data.add_run([done(image_id, boxes((24, 36), 2, rng=rng), rng=rng)], run_record("one"), shard)
    selection = Selection(ExportConfig(str(data.root), "out", "coco"))
    assert (selection.totals().masks, selection.totals().unscored) == (6, 0)
    assert [len(page.rows) for page in selection.pages(2)] == [2, 1]
    shards = Counter(path for path in opened_files if "/shard-" in path)
    assert len(shards) == 6
    assert max(shards.values()) <= 2  # for its footer and for its columns
