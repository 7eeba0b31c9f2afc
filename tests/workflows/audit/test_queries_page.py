"""Every query of docs/queries.md, asked of a data set that has something of everything."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tests.conftest import REPOSITORY
from tests.workflows.audit.conftest import IMAGES, LICENCES, Audited
from workflows.report.queries import rows
from workflows.sql import connect

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
    assert sum(int(str(row["images"])) for row in answers[3]) == 2 * (IMAGES - 1)
    kept = sum(int(str(row["masks"])) for row in answers[6] if row["fate"] == "kept")
    assert kept == masks
    assert sum(int(str(row["masks"])) for row in answers[15]) == masks
    assert {row["licence"] for row in answers[15]} == {name or "none stated" for name in LICENCES}
    assert answers[19] == [
        {
            "masks": audited.masks,
            "deleted": audited.deleted,
            "untouched": int((audited.ious == 1).sum()),
            "changed": int(((audited.ious > 0) & (audited.ious < 1)).sum()),
        }
    ]


def test_higher_thresholds_keep_fewer(answers: dict[int, Rows]) -> None:
    for stability in {row["least_stability"] for row in answers[5]}:
        kept = [int(str(row["masks"])) for row in answers[5] if row["least_stability"] == stability]
        assert all(more >= fewer for more, fewer in pairwise(kept))


def test_points_lie_in_the_boxes_of_the_image(answers: dict[int, Rows]) -> None:
    boxes = {str(row["mask_id"]): row for row in answers[10]}
    for row in answers[11]:
        box = {name: int(str(boxes[str(row["mask_id"])][f"bbox_{name}"])) for name in "xywh"}
        assert box["x"] <= 30 < box["x"] + box["w"]
        assert box["y"] <= 25 < box["y"] + box["h"]
