"""Every query of docs/queries.md, asked of a data set that has something of everything."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from schemas import layout
from schemas.parquet import from_parquet_bytes, to_parquet_bytes
from schemas.tables import ANNOTATIONS
from tests.conftest import REPOSITORY
from tests.workflows.audit.conftest import IMAGES, LICENCES, Audited
from tests.workflows.report.data_sets import DataSet, boxes, done, photos, run_record
from workflows.report.queries import rows
from workflows.sql import connect
from workflows.storage import LocalStore

PAGE = (REPOSITORY / "docs" / "queries.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"^## (\d+)\. .*?^```sql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
EMPTY = {2}
"""Questions whose answer is nothing when all is well."""

Rows = list[dict[str, object]]


@pytest.fixture(scope="module")
def answers(audited: Audited) -> dict[int, Rows]:
    connection = connect(str(audited.root))
    image = audited.images[0][:12]
    return {int(number): rows(connection, sql.replace("{image}", image)) for number, sql in QUERIES}


def test_there_are_twenty() -> None:
    assert [int(number) for number, _ in QUERIES] == list(range(1, 21))


@pytest.mark.parametrize("number", range(1, 21))
def test_every_question_has_an_answer(answers: dict[int, Rows], number: int) -> None:
    assert bool(answers[number]) == (number not in EMPTY)


def test_answers_agree_with_one_another(answers: dict[int, Rows], audited: Audited) -> None:
    masks = sum(int(str(row["masks"])) for row in answers[1])
    assert sum(int(str(row["masks"])) for row in answers[4]) == masks
    for run in (audited.first, audited.second):
        assert sum(int(str(row["images"])) for row in answers[3] if row["run_id"] == run) == IMAGES - 1
    kept = sum(int(str(row["masks"])) for row in answers[6] if row["fate"] == "kept")
    assert kept == masks
    assert sum(int(str(row["masks"])) for row in answers[15]) == masks
    assert sum(int(str(row["images"])) for row in answers[15]) == IMAGES  # the one that failed has a licence, too
    assert {row["licence"] for row in answers[15]} == {name or "none stated" for name in LICENCES}
    assert answers[19] == [
        {
            "run_id": audited.first,
            "masks": audited.masks,
            "deleted": audited.deleted,
            "untouched": int((audited.ious == 1).sum()),
            "changed": int(((audited.ious > 0) & (audited.ious < 1)).sum()),
        }
    ]
    assert [(row["base_miou"], row["held_out_miou"]) for row in answers[20]] == [(0.6, 0.62)]


def test_a_mask_that_was_saved_twice_counts_as_it_was_left(
    answers: dict[int, Rows], audited: Audited, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(audited.root, root)
    store, query = LocalStore(root), dict(QUERIES)["19"]
    key = layout.annotations_key("audit-1", 1)
    first = from_parquet_bytes(store.get(key)).to_pylist()[0]
    again = first | {"revision": 2, "deleted": True, "created_at": first["created_at"] + timedelta(hours=1)}
    store.put(layout.annotations_key("audit-1", 2), to_parquet_bytes(pa.Table.from_pylist([again], schema=ANNOTATIONS)))
    (before,), (after,) = answers[19], rows(connect(str(root)), query)
    assert after == before | {
        "deleted": int(str(before["deleted"])) + 1,
        "untouched": int(str(before["untouched"])) - 1,
    }


def test_higher_thresholds_keep_fewer(answers: dict[int, Rows]) -> None:
    for stability in {row["least_stability"] for row in answers[5]}:
        kept = [int(str(row["masks"])) for row in answers[5] if row["least_stability"] == stability]
        assert all(more >= fewer for more, fewer in pairwise(kept))


def test_images_of_people_alone_and_runs_that_find_nothing(tmp_path: Path) -> None:
    """Images that no run has done have licences; thresholds that keep nothing say 0; no mask costs infinitely much."""
    data = DataSet(tmp_path / "data")
    one, *_ = data.add_images(photos(tmp_path / "photos", 3, rng=np.random.default_rng(0)))
    connection = connect(data.root)
    assert rows(connection, dict(QUERIES)["15"]) == [{"licence": "none stated", "images": 3, "masks": 0}]
    assert rows(connection, dict(QUERIES)["3"]) == []
    rng = np.random.default_rng(0)
    data.add_run([done(one, boxes((24, 36), 1, rng=rng), rng=rng)], run_record("one"))
    data.add_run([done(one, [], rng=rng)], run_record("none", minute=5))
    connection = connect(data.root)
    assert len(rows(connection, dict(QUERIES)["5"])) == 6
    assert None in [row["seconds_per_thousand"] for row in rows(connection, dict(QUERIES)["7"])]


def test_points_lie_in_the_boxes_of_the_image(answers: dict[int, Rows]) -> None:
    boxes = {str(row["mask_id"]): row for row in answers[10]}
    for row in answers[11]:
        box = {name: int(str(boxes[str(row["mask_id"])][f"bbox_{name}"])) for name in "xywh"}
        assert box["x"] <= 30 < box["x"] + box["w"]
        assert box["y"] <= 25 < box["y"] + box["h"]
