"""The command: its table, and what it refuses in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.conftest import Engine
from tests.workflows.evaluate.measuring import run
from workflows.cli import parse
from workflows.evaluate.commands import (
    InstancesConfig,
)
from workflows.evaluate.job import here


def test_the_command_prints_ours_above_the_papers(
    coco: Path, boxes: Path, common: dict[str, Any], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.evaluate.job.on_ray", here)
    done = engine(
        *("evaluate", "instances", "--data", f"tiny={coco}", "--boxes", boxes),
        *("--model", common["model"], "--out", common["out"], "--threads", "1"),
    )
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    (ours,) = [n for n, line in enumerate(lines) if "tiny" in line]
    (theirs,) = [n for n, line in enumerate(lines) if "paper: SAM, COCO" in line]
    assert ours < theirs
    assert "46.5" in lines[theirs]
    assert "evaluation=instances-" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("instances", "--data", "LABELS", "--boxes", "BOXES"), "needs a COCO JSON, whose image ids"),
        (("instances", "--data", "COCO", "LABELS", "--boxes", "BOXES"), "instances takes one set, not 2"),
        (("instances", "--data", "COCO", "--boxes", "COCO"), "a COCO results file is a list"),
        (("edges", "--data", "LABELS"), "edges are measured on BSDS500"),
        (("single-point", "--data", "LABELS", "LABELS"), "two data sets are called 'labelled'"),
        (("single-point", "--data", "nowhere"), "nowhere: no such"),
        (
            ("single-point", "--data", "LABELS", "--image-folder", "blurred"),
            "--image-folder blurred: no set looks there",
        ),
        (("single-point", "--data", "LABELS", "--model", "vit_q"), "no model is called 'vit_q'"),
    ],
)
def test_refusals_in_one_line(
    coco: Path, labelled: Path, boxes: Path, tmp_path: Path, engine: Engine, arguments: tuple[str, ...], complaint: str
) -> None:
    known = {"COCO": str(coco), "LABELS": str(labelled), "BOXES": str(boxes)}
    given = [known.get(word, word) for word in arguments]
    if arguments[0] != "text":
        given += ["--out", str(tmp_path / "out")]
    done = engine("evaluate", *given)
    assert done.status == 2
    assert complaint in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("instances", "--data", "a.json"), "--boxes"),
        (("single-point", "--data", "a", "--clicks", "3", "1"), "--clicks must increase"),
        (("single-point", "--data", "a", "--limit", "0"), "--limit is 0; it must be positive"),
        (("single-point",), "--data"),
        ((), "single-point"),
    ],
)
def test_wrong_flags(arguments: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse(["evaluate", *arguments])


def test_boxes_without_area_or_image_are_refused(coco: Path, boxes: Path, common: dict[str, Any]) -> None:
    results = json.loads(boxes.read_text())
    config = InstancesConfig(data=(str(coco),), boxes=str(boxes), **common)
    for changed, complaint in (
        ({"bbox": [1.0, 1.0, 0.0, 5.0]}, "entry 0: bbox has no area"),
        ({"image_id": 4}, "image_id 4 is not in"),
    ):
        boxes.write_text(json.dumps([results[0] | changed]))
        with pytest.raises(ValueError, match=complaint):
            run(config)
