"""`sam-engine rounds` as people run it: on Ray, unattended through two stages, reported."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from schemas.catalog import connect
from tests.workflows.conftest import Engine
from tests.workflows.rounds.conftest import Document
from workflows.cli import parse
from workflows.report import write_report


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.timeout(600)
def test_every_kind_of_work_on_ray(
    document: Document, tmp_path: Path, engine: Engine, request: pytest.FixtureRequest
) -> None:
    """Detector and generator; the first stage has nothing that these two do not do. Training is in this process, as it
    has tests of its own on Ray."""
    stage3 = {"preset": "stage3_fine_tune", **document["training"]}
    document["stages"] = [document["stages"][1], {"stage": "automatic", "recipe": "draft", "training": stage3}]
    (tmp_path / "engine.yaml").write_text(yaml.safe_dump(document))
    refused = engine("rounds", "resume", tmp_path / "engine.yaml")
    assert (refused.status, "has no round to go on with" in refused.err) == (2, True)
    early = engine("rounds", "status", tmp_path / "engine.yaml")
    assert (early.status, "no round has begun" in early.err) == (2, True)

    begun = engine("rounds", "run", tmp_path / "engine.yaml", "--simulate", "--steps", "2")
    assert begun.status == 0, begun.err
    assert begun.out.strip().splitlines()[-1].endswith("stopped; the same command goes on")
    request.getfixturevalue("train_without_ray_train")
    done = engine("rounds", "resume", tmp_path / "engine.yaml", "--simulate")
    assert done.status == 0, done.err
    assert "all rounds are done" in done.out
    assert "round 2 (automatic): generate done" in done.out
    assert connect(document["dataset"]).sql("SELECT count(*) FROM models WHERE round = 1").fetchall() == [(1,)]
    again = engine("rounds", "run", tmp_path / "engine.yaml", "--simulate")
    assert again.out.strip().splitlines() == [f"{document['dataset']}: all rounds are done"]

    status = engine("rounds", "status", tmp_path / "engine.yaml", "--json")
    lines = json.loads(status.out)
    assert [(line["stage"], line["state"], line["promoted"]) for line in lines] == [
        ("semi_automatic", "finished", True),
        ("automatic", "finished", True),
    ]
    shown = engine("rounds", "status", tmp_path / "engine.yaml").out.splitlines()
    assert len(shown[0]) < 110
    assert [line.split()[:3] for line in shown[1:3]] == [
        ["1", "semi_automatic", "promoted"],
        ["2", "automatic", "promoted"],
    ]
    assert f"round 2: {lines[1]['reason']}" in shown
    assert shown[-1] == "all rounds are done"
    connection = connect(document["dataset"])
    made = connection.sql("SELECT model_id, round, recipe_name FROM runs WHERE name = 'round-2'").fetchall()
    assert made == [(lines[1]["model_after"], 2, "draft")]
    assert made[0][0].startswith("vit_test_stage3-")
    assert connection.execute(
        "SELECT count(*) FROM outcomes JOIN runs USING (run_id) WHERE name = 'round-2'"
    ).fetchall() == [(6,)]

    write_report(document["dataset"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert '<section id="rounds">' in page
    assert "One-click mIoU" in page
    assert "The same held-out images, first and last round" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("status", "--simulate"), "--simulate and --steps are for run and resume"),
        (("status", "--steps", "2"), "--simulate and --steps are for run and resume"),
        (("run", "--json"), "rounds run has no --json"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(["rounds", *words])


def test_refusals(tmp_path: Path, engine: Engine) -> None:
    none = engine("rounds", "run", tmp_path / "engine.yaml")
    assert (none.status, len(none.err.strip().splitlines())) == (2, 1)
    (tmp_path / "engine.yaml").write_text("dataset: d\n")
    missing = engine("rounds", "run", tmp_path / "engine.yaml")
    assert missing.status == 2
    assert "engine.yaml: images: is missing" in missing.err
    nothing = engine("rounds", "run", tmp_path / "engine.yaml", "--steps", "0")
    assert (nothing.status, len(nothing.err.strip().splitlines())) == (2, 1)
    assert "--steps is 0" in nothing.err
