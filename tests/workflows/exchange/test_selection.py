"""What an export was asked for, found in the tables."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from schemas.catalog import connect
from tests.workflows.conftest import Engine
from tests.workflows.exchange.conftest import Masked, export
from tests.workflows.report.data_sets import DataSet, boxes, done, photos, run_record
from workflows.exchange.commands import ExportConfig
from workflows.exchange.selection import Selection
from workflows.relate import relate_shards


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


def test_sql_chooses_images(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    """Two parts are all."""
    found = []
    for name, likes in (("some", "LIKE"), ("others", "NOT LIKE")):
        chosen = f"SELECT image_id FROM images WHERE uri {likes} '%.jpg' -- photographs"
        export(engine, masked, tmp_path / name, "coco", "--no-pictures", "--images", chosen)
        export(engine, masked, tmp_path / name, "coco", "--no-pictures", "--images", chosen)
        document = json.loads((tmp_path / name / "instances.json").read_text())
        found.append({image["file_name"] for image in document["images"]})
        assert {entry["image_id"] for entry in document["annotations"]} <= {image["id"] for image in document["images"]}
    assert found == [{"b.jpg", "c.jpg"}, {"a.png", "d.webp"}]


def test_sql_that_comes_to_choose_others_is_another_export(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    root = shutil.copytree(masked.root, tmp_path / "data")
    asked = "SELECT image_id FROM images ORDER BY image_id LIMIT (SELECT 1 + count(*) FROM relations)"
    command = ("export", root, tmp_path / "out", "--format", "coco", "--no-pictures", "--images", asked)
    assert engine(*command).status == 0
    with connect(root) as connection:
        shards = connection.sql("SELECT DISTINCT run_id, 0 AS shard FROM masks").to_arrow_table()
    relate_shards(str(root), 0.9, 0.9, shards)
    refused = engine(*command)
    assert refused.status == 2
    assert "holds another export (the data set has changed since)" in refused.err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("SELECT uri FROM images", 'Referenced column "image_id" not found'),
        ("SELECT image_id FROM nothing", "Table with name nothing does not exist"),
        ("SELECT image_id FROM images WHERE false", "no image or mask is chosen"),
        ("", "--images is empty; it must be SQL"),
    ],
)
def test_sql_that_chooses_none_is_refused(
    engine: Engine, masked: Masked, tmp_path: Path, asked: str, said: str
) -> None:
    refused = engine("export", masked.root, tmp_path / "out", "--format", "coco", "--images", asked)
    assert (refused.status, refused.err.strip().count("\n")) == (2, 0)
    assert said in refused.err
    assert not (tmp_path / "out").exists()
