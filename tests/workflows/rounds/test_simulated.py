"""Simulated annotators on Ray against the same ones in one process."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sam_core.masks.packed import PackedMasks
from schemas.layout import EVENTS_PREFIX
from tests.workflows.rounds.conftest import Document, Opened
from tests.workflows.rounds.test_proposals import bars
from tests.workflows.train.here import train_here
from workflows.rounds.config import EngineConfig, parse_engine
from workflows.rounds.detector_job import train_detector
from workflows.rounds.engine import Means, open_engine, run_rounds
from workflows.rounds.simulated import Proposal, _reviewed, _unmatched
from workflows.rounds.steps import STEPS
from workflows.sql import connect


def test_people_keep_one_proposal_for_each_object_the_best_first() -> None:
    """IoU with the first object 8/10 and 9/10, with the second 5/10; the fourth lies on nothing."""
    objects = PackedMasks.of(bars((0, 10), (20, 30)))
    marked = PackedMasks.of(bars((0, 8), (0, 9), (20, 25), (12, 14)))
    proposed = [Proposal(str(n), counts) for n, counts in enumerate(marked.rles)]
    kept, missing = _reviewed(objects, proposed, 0.75)
    assert kept == [False, True, False, False]
    assert missing == objects[1:]
    kept, missing = _reviewed(objects, proposed, 0.5)
    assert (kept, len(missing)) == ([False, True, True, False], 0)
    assert _reviewed(objects[:0], proposed, 0.5)[0] == [False] * 4


def test_an_object_counts_as_drawn_from_half_of_it_on() -> None:
    objects = PackedMasks.of(bars((0, 10), (20, 30)))
    assert _unmatched(objects, PackedMasks.of(bars((0, 5), (20, 24))).rles, 0.5).tolist() == [False, True]
    assert _unmatched(objects, [], 0.5).tolist() == [True, True]


def test_a_click_lies_in_the_middle_of_its_pixel(config: EngineConfig, opened: Opened) -> None:
    """Also in a picture's corners."""
    run_rounds(opened(config), STEPS, most=2, tell=lambda _: None)
    rows = connect(config.dataset).sql("SELECT point_x, point_y FROM annotations").fetchall()
    assert rows
    assert {place % 1 for row in rows for place in row} == {0.5}


def written(root: Path) -> dict[str, bytes]:
    """The masks and events of annotators."""
    files = [path for path in (root / "annotations").rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_workers_write_what_one_process_writes(document: Document, opened: Opened, tmp_path: Path) -> None:
    document["stages"][0]["images"] = 5
    here = parse_engine(document, where="engine.yaml")
    there = replace(here, dataset=str(tmp_path / "there"))
    run_rounds(opened(here), STEPS, most=1, tell=lambda _: None)
    shutil.copytree(here.dataset, there.dataset)
    for engine in (opened(here), open_engine(there, Means(train_here, train_detector), simulate=True)):
        run_rounds(engine, STEPS, most=1, tell=lambda _: None)
    found = written(Path(here.dataset))
    assert len([key for key in found if key.startswith(EVENTS_PREFIX)]) == 5
    assert written(Path(there.dataset)) == found
