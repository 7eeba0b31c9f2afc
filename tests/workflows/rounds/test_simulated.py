"""Simulated annotators on Ray against the same ones in one process."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.layout import EVENTS_PREFIX
from tests.workflows.rounds.conftest import Document, Opened
from tests.workflows.train.here import train_here
from workflows.rounds.config import parse_engine
from workflows.rounds.detector_job import train_detector
from workflows.rounds.engine import Means, open_engine, run_rounds
from workflows.rounds.steps import STEPS


def written(root: Path) -> dict[str, bytes]:
    """The masks and events of annotators."""
    files = [path for path in (root / "annotations").rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


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
