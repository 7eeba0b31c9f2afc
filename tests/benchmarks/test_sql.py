"""The made-up masks are sound rows, and the questions about them have answers; how fast is not tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.validate import check_images, check_shard
from tests.benchmarks import many_masks, sql, sql_layouts
from workflows.sql import connect


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_masks, "IMAGES_PER_SHARD", 25)
    monkeypatch.setattr(many_masks, "OUTLINES", 300)
    many_masks._drawn.cache_clear()


def test_shards_are_sound_and_in_the_order_of_their_images() -> None:
    drawn = many_masks.outlines(300)
    shards = [many_masks.shard_tables(number, 3, drawn) for number in range(3)]
    for images, masks, outcomes in shards:
        check_images(images)
        check_shard(masks, outcomes)
    names = [name for images, _, _ in shards for name in images["image_id"].to_pylist()]
    assert names == sorted(set(names))
    sides = np.sqrt(drawn["area"].to_numpy() / (many_masks.HEIGHT * many_masks.WIDTH))
    assert 0.03 < np.median(sides) < 0.08


def test_a_data_set_is_gone_on_with_and_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "LOOK_UPS", 3)
    assert many_masks.make(tmp_path, 5000, workers=1, minutes=0.0) == 2
    assert many_masks.make(tmp_path, 5000, workers=1, minutes=1.0) == 0
    assert connect(str(tmp_path)).sql("FROM problems").fetchall() == []
    found = sql.ask(tmp_path)
    assert found["masks"] == 5000
    assert all(seconds["best"] <= seconds["first"] for seconds in found["seconds"].values())


def test_layouts_hold_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    found = sql_layouts.compare(5000)
    sizes = {str(one["layout"]): float(str(one["bytes_per_mask"])) for one in found}
    assert len(sizes) == len(sql_layouts.LAYOUTS)
    assert sizes["rle not compressed"] > sizes["as written"]
