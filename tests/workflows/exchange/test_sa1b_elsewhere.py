"""Documents of SA-1B whose pictures lie in another folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.workflows.conftest import Engine
from tests.workflows.exchange.conftest import Masked
from tests.workflows.exchange.test_import import rows, stated


@pytest.fixture
def documents(engine: Engine, masked: Masked, tmp_path: Path) -> Path:
    """Those of four photographs, without these."""
    out = tmp_path / "documents"
    assert engine("export", masked.root, out, "--format", "sa1b", "--no-pictures").status == 0
    assert sorted(path.suffix for path in out.iterdir()) == [".json"] * 4 + [".record"]
    return out


def test_an_export_without_pictures_names_those_of_the_data_set(
    engine: Engine, masked: Masked, documents: Path, tmp_path: Path
) -> None:
    back = tmp_path / "back"
    assert engine("import", documents, back, "--image-folder", masked.photos).status == 0
    found = rows(back, "SELECT * FROM masks")
    assert stated(found) == stated(masked.masks)
    assert {row["image_id"] for row in found} == set(masked.masks["image_id"].to_pylist())
    assert rows(back, "SELECT count(*) AS n FROM outcomes") == [{"n": 4}], "the one without masks is looked at, too"
    assert "0 masks imported" in engine("import", documents, back, "--image-folder", masked.photos).out


def test_a_name_counts_from_the_folder_of_its_document(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    """As where the parts of SA-1B are unpacked with their pictures in one place and documents in another."""
    out, pictures, back = tmp_path / "out", tmp_path / "pictures", tmp_path / "back"
    assert engine("export", masked.root, out, "--format", "sa1b").status == 0
    for number, path in enumerate(sorted(out.glob("sa_*.json"))):
        document = json.loads(path.read_text())
        picture = out / document["image"]["file_name"]
        document["image"]["file_name"] = f"same{picture.suffix}"
        part = out / f"part_{number}"
        part.mkdir()
        (part / "masks.json").write_text(json.dumps(document))
        path.unlink()
        (pictures / part.name).mkdir(parents=True)
        shutil.move(picture, pictures / part.name / f"same{picture.suffix}")
    assert engine("import", out, back, "--image-folder", pictures).status == 0
    assert stated(rows(back, "SELECT * FROM masks")) == stated(masked.masks)


def test_what_has_no_picture_of_its_own_is_left_out(
    engine: Engine, masked: Masked, documents: Path, tmp_path: Path
) -> None:
    first, second, third, fourth = sorted(documents.glob("sa_*.json"))
    again = json.loads(second.read_text())
    second.write_text(json.dumps(again | {"image": json.loads(first.read_text())["image"]}))
    third.write_text(json.dumps(again | {"image": again["image"] | {"file_name": "nowhere.png"}}))
    fourth.write_text("{")
    done = engine("import", documents, tmp_path / "back", "--image-folder", masked.photos)
    assert done.status == 1
    assert f"left out: {second}: {first} is of the same picture" in done.err
    assert f"left out: {third}: no picture 'nowhere.png' in {masked.photos}" in done.err
    assert f"left out: {fourth}" in done.err
    assert len(rows(tmp_path / "back", "SELECT * FROM outcomes")) == 1


def test_without_the_folder_its_option_is_named(engine: Engine, documents: Path, tmp_path: Path) -> None:
    refused = engine("import", documents, tmp_path / "back")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "--image-folder says where the pictures of its documents lie" in refused.err


def test_one_document_is_imported_as_its_folder(engine: Engine, documents: Path, tmp_path: Path) -> None:
    refused = engine("import", documents / "sa_1.json", tmp_path / "back")
    assert (refused.status, "SA-1B is imported as the folder that holds its documents" in refused.err) == (2, True)
