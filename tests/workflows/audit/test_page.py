"""The page as a browser gets it, and the command."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.workflows.audit.conftest import IMAGES, Audited
from tests.workflows.conftest import Engine
from tests.workflows.report.data_sets import DataSet
from workflows.audit.commands import AuditConfig


@pytest.fixture(scope="module")
def page(audited: Audited, tmp_path_factory: pytest.TempPathFactory) -> str:
    from workflows.cli import main

    out = tmp_path_factory.mktemp("page") / "audit.html"
    numbers = out.with_suffix(".json")
    arguments = ["audit", f"{audited.root}@first", "--against", f"{audited.root}@second", f"{audited.root}@annotations"]
    assert main([*arguments, "--out", str(out), "--json", str(numbers), "--target", "0.8"]) == 0
    assert json.loads(numbers.read_text())["found"][0]["totals"]["images"] == IMAGES - 1
    return out.read_text(encoding="utf-8")


def test_nothing_is_loaded_and_only_its_own_script_may_run(page: str) -> None:
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page or f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", page)
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_every_place_has_its_plot(page: str) -> None:
    data = re.search(r'<script type="application/json" id="plots">(.*?)</script>', page, re.DOTALL)
    assert data
    plots = json.loads(data[1])
    places = [int(number) for number in re.findall(r'data-plot="(\d+)"', page)]
    assert sorted(places) == list(range(len(plots)))
    titles = [plot["title"] for plot in plots]
    assert {"Concavity", "Coverage", "Images by country", "IoU with the corrected mask"} < set(titles)
    for plot in plots:
        for series in plot["series"]:
            assert len(series["values"]) == (len(plot["parts"]) or 1024)
        if plot["kind"] == "steps":
            assert len(plot["edges"]) == len(plot["parts"]) + 1


def test_masks_that_cannot_be_imported_as_automatic_ones_have_no_protocol(tmp_path: Path) -> None:
    from workflows.cli import main

    square = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16}
    square |= {"segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
    image = {"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}
    path, out = tmp_path / "instances.json", tmp_path / "audit.html"
    for more, said in (
        ({}, "those of this file have no predicted IoU"),
        ({"predicted_iou": 0.9, "stability_score": 0.9, "point_coords": [[2, 2]]}, "DATASET --stage automatic"),
    ):
        path.write_text(json.dumps({"images": [image], "annotations": [square | more], "categories": []}))
        assert main(["audit", str(path), "--out", str(out)]) == 0
        page = out.read_text(encoding="utf-8")
        assert said in page
        assert ("sam-engine import" in page) == bool(more)


def test_every_group_has_its_examples(page: str) -> None:
    counts = [int(count) for count in re.findall(r"(\d+) masks? · photo-\d+.jpg", page)]
    assert 4 <= len(counts) <= 8  # of images with up to 10 and with up to 14 masks
    assert counts == sorted(counts)


def test_hostile_names_are_text(tmp_path: Path, engine: Engine, audited: Audited) -> None:
    import shutil

    root = tmp_path / "<script>x"
    shutil.copytree(audited.root, root)
    assert engine("audit", root, "--out", tmp_path / "a.html", "--pictures", 0).status == 0
    assert "<script>x" not in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--against", *"abcdefgh"], "--against names 8 data sets; 7 can be told apart"),
        (["--against", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_use_is_one_line(audited: Audited, engine: Engine, arguments: list[str], words: str) -> None:
    finished = engine("audit", audited.root, *arguments)
    assert finished.status == 2
    assert words in finished.err
    assert finished.err.count("\n") == 1


@pytest.mark.parametrize("wrong", [{"target": 2.0}, {"pictures": -1}, {"duplicate_iou": 0.0}])
def test_impossible_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="it must"):
        AuditConfig("data", **wrong)  # type: ignore[arg-type]


def test_a_data_set_without_masks_has_nothing_to_audit(empty: DataSet, engine: Engine) -> None:
    finished = engine("audit", empty.root)
    assert finished.status == 2
    assert "has no masks to audit" in finished.err
    of_people = engine("audit", f"{empty.root}@annotations")
    assert (of_people.status, "has no masks by people to audit" in of_people.err) == (2, True)


@pytest.fixture
def empty(tmp_path: Path) -> DataSet:
    return DataSet(tmp_path / "empty")
