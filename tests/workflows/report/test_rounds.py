"""Rounds in the report: the table, the curves and the pictures of the first and last round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from schemas.catalog import connect
from schemas.layout import round_key, run_key
from schemas.records import RoundRecord, to_json
from tests.schemas.rows import RUN, START, new_dataset, put, put_shard, run_record
from workflows.report.rounds import CURVES, read_rounds
from workflows.report.scope import read_runs

ROUND = RoundRecord(
    number=1,
    stage="assisted_manual",
    state="finished",
    started_at=START,
    finished_at=START,
    model_before="vit_n-0",
    model_after="vit_n-1",
    promoted=True,
    reason="one-click mIoU <b>50</b> -> 60",
    metrics={"images": 4, "masks": 40, "masks_per_image": 10.0, "clicks_per_mask": 6.5, "base_miou": 0.5}
    | {"held_out_miou": 0.6, "clicks_to_090": 7.25, "human_hours": 0.5, "machine_hours": 0.1, "cost": 7.6},
    details={"stage": {"queue": ["a", "b"]}, "snapshot": {"key": "k", "sha256": "s", "images": 4, "masks": 40}},
)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = new_dataset(tmp_path / "data")
    second = replace(
        ROUND, number=2, promoted=None, reason=None, model_after=None, state="train", metrics={"images": 4}
    )
    for record in (ROUND, second):
        put(root, round_key(record.number), to_json(record))
    return root


def test_lines_and_curves_come_from_the_view(dataset: Path) -> None:
    found = read_rounds(connect(dataset), [])
    assert found
    first, second = found.lines
    assert (first.promoted, first.held_out_miou, first.cost) == (True, 0.6, 7.6)
    assert (second.promoted, second.held_out_miou, second.state) == (None, None, "train")
    by_title = {figure.title: figure for figure in found.figures}
    assert set(by_title) == {"One-click mIoU", "Clicks to IoU 0.9", "Masks per image"}  # what some round has
    assert by_title["Clicks to IoU 0.9"].table.rows == (("1", "assisted manual", "7.25"),)
    assert by_title["One-click mIoU"].table.rows[0][2] == "60 %"
    assert not found.compared
    assert len(CURVES) == 5


def test_a_run_that_somebody_called_nearly_so_is_none_of_a_round(dataset: Path) -> None:
    """Its name ended the report: `invalid literal for int()`."""
    put_shard(dataset, 0, {"a": 2})
    put(dataset, run_key(RUN), to_json(replace(run_record(), name="held-out-round-last")))
    connection = connect(dataset)
    found = read_rounds(connection, read_runs(connection))
    assert found
    assert not found.compared


def test_views_of_rounds(dataset: Path) -> None:
    connection = connect(dataset)
    assert connection.sql("SELECT * FROM round_queue WHERE round = 1").fetchall() == [(1, "a", 1), (1, "b", 2)]
    assert connection.sql("SELECT round, masks, model_id FROM round_data").fetchall() == [
        (1, 40, "vit_n-1"),
        (2, 40, None),
    ]


def test_without_rounds_there_is_no_section(tmp_path: Path) -> None:
    assert read_rounds(connect(new_dataset(tmp_path / "data")), []) is None
