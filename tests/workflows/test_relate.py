"""Relations of a data set's masks as rows, views and files."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from schemas.layout import relations_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import MASKS, RELATIONS
from tests.workflows.conftest import Engine
from tests.workflows.report.data_sets import DataSet, done, photos, run_record
from workflows import relate
from workflows.exchange.commands import RelateConfig
from workflows.relate import relate_shards, relation_rows
from workflows.sql import connect
from workflows.storage import LocalStore

SIZE = (24, 36)


def box(y: int, x: int, h: int, w: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[y : y + h, x : x + w] = True
    return mask


STREET, CAR, WHEEL, COPY = box(2, 0, 22, 36), box(8, 4, 14, 25), box(16, 6, 5, 5), box(8, 4, 14, 26)


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """Two images in two shards; the first has a wheel in a car, a copy of the car, and a street around them."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    first, second = data.add_images(photos(tmp_path / "photos", 2, rng=rng))
    run = run_record("one")
    data.add_run([done(first, [CAR, WHEEL, STREET, COPY], rng=rng)], run, shard=0)
    data.add_run([done(second, [WHEEL], rng=rng)], run, shard=1)
    return tmp_path / "data"


def ask(dataset: Path, sql: str) -> list[tuple[object, ...]]:
    return connect(str(dataset)).sql(sql).fetchall()


def test_views(engine: Engine, nested: Path) -> None:
    assert ask(nested, "SELECT count(*) FROM relations") == [(0,)]
    assert ask(nested, "SELECT count(*) FROM distinct_masks") == [(5,)]
    finished = engine("relate", nested)
    assert finished.status == 0, finished.err
    assert "5 masks, 3 are parts of others, 1 repeat better ones" in finished.out
    number = "right(mask_id, 5)::INT"
    tree = ask(
        nested,
        f"SELECT {number}, right(parent_mask_id, 1)::INT, right(whole_mask_id, 1)::INT, depth, parts, "
        "right(duplicate_of, 1)::INT FROM mask_tree ORDER BY mask_id",
    )
    assert sorted(tree, key=str) == sorted(
        [
            (0, 2, 2, 1, 1, None),
            (1, 0, 2, 2, 0, None),
            (2, None, None, 0, 2, None),
            (3, 2, 2, 1, 0, 0),
            (0, None, None, 0, 0, None),
        ],
        key=str,
    )
    assert ask(nested, "SELECT count(*) FROM distinct_masks") == [(4,)]
    street = ask(nested, "SELECT mask_id FROM mask_tree WHERE parts = 2")[0][0]
    assert [row[0] for row in ask(nested, f"SELECT depth FROM parts_of('{street}')")] == [1, 1, 2]


def test_again_writes_nothing_other_thresholds_everything(engine: Engine, nested: Path) -> None:
    assert engine("relate", nested).status == 0
    store = LocalStore(nested)
    first = list(store.list("relations"))
    assert [entry.key.rpartition("/")[2] for entry in first] == ["shard-00000000.parquet", "shard-00000001.parquet"]
    assert engine("relate", nested).status == 0
    assert list(store.list("relations")) == first
    assert engine("relate", nested, "--duplicate-iou", "0.99").status == 0
    assert list(store.list("relations")) != first
    assert ask(nested, "SELECT count(*) FROM distinct_masks") == [(5,)]


def test_progress_is_shown_where_ray_leaves_standard_error(
    engine: Engine, nested: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many shards it stayed at 0: Ray, which takes over descriptor 2, was started after the progress."""
    whole = relate.on_each

    def takes_over(*of: Any) -> Iterable[pa.Table]:
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        return whole(*of)

    monkeypatch.setattr(relate, "on_each", takes_over)
    assert engine("relate", nested).status == 0
    assert "relating: 2 of 2 images" in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_masks_that_are_related_are_not_read_again(engine: Engine, nested: Path) -> None:
    assert engine("relate", nested, "--containment", "0.8", "--duplicate-iou", "0.95").status == 0
    store = LocalStore(nested)
    for entry in list(store.list("masks")):
        store.put(entry.key, b"not to be read")
    shards = pa.table({"run_id": [run_record("one").run_id] * 2, "shard": [0, 1]})
    done = relate_shards(store.root, 0.8, 0.95, shards)
    assert done.to_pylist() == [{"images": 1, "masks": 4}, {"images": 1, "masks": 1}]


def test_relations_of_other_masks_than_a_shard_has_are_made_anew(engine: Engine, nested: Path) -> None:
    store = LocalStore(nested)
    for shard in (0, 1):
        store.put(relations_key(run_record("one").run_id, shard), to_parquet_bytes(RELATIONS.empty_table()))
    assert "5 masks, 3 are parts of others, 1 repeat better ones" in engine("relate", nested).out


def test_exports_can_leave_copies_out(engine: Engine, nested: Path, tmp_path: Path) -> None:
    assert engine("relate", nested).status == 0
    out = tmp_path / "out"
    assert engine("export", nested, out, "--format", "coco", "--distinct", "--no-pictures").status == 0
    assert "4 masks" in engine("export", nested, out, "--format", "coco", "--distinct", "--no-pictures").out
    assert engine("relate", nested, "--duplicate-iou", "0.99").status == 0
    other = engine("export", nested, out, "--format", "coco", "--distinct", "--no-pictures")
    assert (other.status, "the data set has changed since" in other.err) == (2, True)


def test_an_export_without_copies_asks_for_what_was_not_compared(engine: Engine, nested: Path, tmp_path: Path) -> None:
    """Copies of which nobody knows would stand in the export without a word."""
    command = ("export", nested, tmp_path / "out", "--format", "coco", "--distinct", "--no-pictures")
    (run,) = ask(nested, "SELECT run_id FROM runs")[0]
    for spared, said in (((), "2 shards"), ((0,), "1 shards"), ((0, 1), "several thresholds")):
        if spared:
            relate_shards(str(nested), 0.9, 0.8 + spared[-1] / 10, pa.table({"run_id": [run], "shard": [spared[-1]]}))
        refused = engine(*command)
        assert (refused.status, said in refused.err, "sam-engine relate" in refused.err) == (2, True, True)
    assert engine("relate", nested).status == 0
    assert engine(*command).status == 0


def test_refusals(engine: Engine, tmp_path: Path) -> None:
    assert engine("relate", tmp_path).status == 2
    DataSet(tmp_path / "data")
    empty = engine("relate", tmp_path / "data")
    assert empty.status == 2
    assert "no finished images to relate masks of" in empty.err
    for values in ({"containment": 0.5}, {"duplicate_iou": 2.0}):
        with pytest.raises(ValueError, match=r"it must be above 0\.5, at most 1"):
            RelateConfig("d", **values)


def test_every_image_of_a_shard_is_looked_at_by_itself(engine: Engine, tmp_path: Path) -> None:
    """The same masks three times are no copies of each other."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    images = data.add_images(photos(tmp_path / "photos", 3, rng=rng))
    data.add_run([done(image, [CAR, WHEEL], rng=rng) for image in images], run_record("one"), shard=0)
    assert engine("relate", tmp_path / "data").status == 0
    found = ask(tmp_path / "data", "SELECT image_id, depth, duplicate_of FROM relations ORDER BY ALL")
    assert found == [(image, depth, None) for image in sorted(images) for depth in (0, 1)]


def test_no_masks_have_no_relations() -> None:
    assert relation_rows(MASKS.empty_table(), containment=0.9, duplicate_iou=0.9) == RELATIONS.empty_table()
