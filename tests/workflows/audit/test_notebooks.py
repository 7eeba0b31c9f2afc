"""Every notebook runs from top to bottom on a small data set, and ends without an error."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY
from tests.workflows.audit.conftest import Audited, blobs, pictures
from tests.workflows.report.data_sets import DataSet, done, failed, run_record

nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebooks`")
nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebooks`")

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def execute(path: Path, monkeypatch: pytest.MonkeyPatch, **variables: str | Path) -> list[str]:
    """Run a notebook in a kernel with these environment variables; the texts that its cells printed or returned."""
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("PATH", os.defpath)  # as where a kernel is chosen, and no environment entered
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(path.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.get("text") or str(output.get("data", {}).get("text/plain", "")) for output in outputs]


def test_all_are_here() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["1_", "2_", "3_", "4_", "5_"]


def test_their_extra_has_what_they_import() -> None:
    """`.df()` is of pandas, which only another extra happened to bring."""
    extra = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["notebooks"]
    code = "".join(path.read_text() for path in NOTEBOOKS)
    needed = {name for name, sign in (("pandas", ".df()"), ("matplotlib", "import matplotlib")) if sign in code}
    assert needed <= {Requirement(line).name for line in extra}


def test_without_a_word_they_read_what_make_demo_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAM_ENGINE_DATASET", raising=False)
    for path in NOTEBOOKS[:3]:
        code = next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
        (line,) = (line for line in code.splitlines() if line.startswith("DATASET"))
        named: dict[str, str] = {}
        exec(f"import os\n{line}", named)
        assert (path.parent / named["DATASET"]).resolve() == REPOSITORY.resolve() / "demo"


def test_a_comparison_of_one_run_says_how_to_make_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataSet(tmp_path / "data")
    data.add_run([], run_record("only"))
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="fewer than two runs with masks: make another"):
        execute(NOTEBOOKS[2], monkeypatch, SAM_ENGINE_DATASET=data.root)


@pytest.mark.slow
def test_quickstart(
    audited: Audited, tiny_checkpoint: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder as people have it: with a name of several words, and a file in it that is no picture."""
    photos = tmp_path / "my photos, 'ü'"
    photos.mkdir()
    shutil.copy(audited.root.parent / "photos" / "photo-03.jpg", photos)
    (photos / "0.jpg").write_bytes(b"no picture")
    places = {"SAM_ENGINE_SOURCE": photos, "SAM_ENGINE_DATASET": tmp_path / "my masks"}
    said = execute(NOTEBOOKS[0], monkeypatch, **places)
    assert any("vit_n" in text for text in said)


@pytest.mark.parametrize("number", [1, 2])
def test_questions_to_a_local_data_set(audited: Audited, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert execute(NOTEBOOKS[number], monkeypatch, SAM_ENGINE_DATASET=audited.root)


def test_masks_of_an_image_where_the_other_run_found_none_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    data = DataSet(tmp_path / "data")
    one, other, unfinished = data.add_images(pictures(tmp_path / "photos")[:3])
    rng = np.random.default_rng(3)
    found = blobs(2, rng)
    data.add_run([done(image, found, rng=rng) for image in (one, other, unfinished)], run_record("before"))
    empty = [done(other, [], rng=rng), failed(unfinished, "Damaged", "cut off")]
    data.add_run([done(one, found, rng=rng), *empty], run_record("after", minute=5))
    monkeypatch.setenv("SAM_ENGINE_DATASET", str(data.root))
    names: dict[str, Any] = {}
    for cell in nbformat.read(NOTEBOOKS[2], as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    assert names["lost"].tolist() == [1, 1, 0, 0]
    assert names["gained"].tolist() == [1, 1]


@pytest.mark.parametrize("number", range(5))
def test_a_data_set_without_masks_is_told_in_one_line(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all images failed, every notebook that needs masks says so, before it divides by their number."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    data = DataSet(tmp_path / "data")
    images = data.add_images(pictures(tmp_path / "photos")[:3])
    data.add_run([failed(image, "Damaged", "cut off") for image in images], run_record("failed"))
    monkeypatch.setenv("SAM_ENGINE_DATASET", str(data.root))
    monkeypatch.setenv("SAM_ENGINE_AUDITED", str(data.root))
    cells = [cell.source for cell in nbformat.read(NOTEBOOKS[number], as_version=4).cells if cell.cell_type == "code"]
    names: dict[str, Any] = {}
    code = "\n".join(cell for cell in cells if not cell.startswith("!"))
    with pytest.raises(ValueError, match=r"masks|no image is done"):
        exec(code, names)


def test_a_run_that_has_just_begun_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And groups of size without masks have no concavity, rather than one of 0."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    data = DataSet(tmp_path / "data")
    images = data.add_images(pictures(tmp_path / "photos")[:3])
    rng = np.random.default_rng(3)
    whole = np.ones((60, 80), bool)
    data.add_run([done(image, [whole], rng=rng) for image in images], (run := run_record("whole")))
    data.add_run([], run_record("begun", minute=5))
    monkeypatch.setenv("SAM_ENGINE_DATASET", str(data.root))
    drawn: list[list[int]] = []
    monkeypatch.setattr("matplotlib.pyplot.boxplot", lambda groups, **_: drawn.append([len(each) for each in groups]))
    names: dict[str, Any] = {}
    for cell in nbformat.read(NOTEBOOKS[1], as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    assert names["RUN"] == run.run_id
    assert drawn == [[0, 0, 0, 0, 3]]


def test_quality(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    said = execute(NOTEBOOKS[3], monkeypatch, SAM_ENGINE_AUDITED=f"{audited.root}@first")
    assert f"{audited.masks} masks on 8 images" in said[0]


def test_questions_to_a_bucket(audited: Audited, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = boto3.client("s3")
    for file in (path for path in audited.root.rglob("*") if path.is_file()):
        client.upload_file(str(file), bucket, f"masks/{file.relative_to(audited.root).as_posix()}")
    said = execute(NOTEBOOKS[4], monkeypatch, SAM_ENGINE_DATASET=f"s3://{bucket}/masks")
    assert any("one image:" in text for text in said)


def test_outputs_are_kept_for_reading() -> None:
    for path in NOTEBOOKS:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells), f"{path.name}: python -m tests.benchmarks.notebooks"
        assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
