"""Pictures that are gone, or other ones by now, when masks are exported."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO

from tests.workflows.conftest import Engine
from tests.workflows.exchange.conftest import KINDS, MASKS_PER_IMAGE, Masked, contents, export, replaced


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", ["1", "2", "256"])
def test_what_is_gone_is_left_out_and_taken_when_it_is_back(
    engine: Engine, masked: Masked, tmp_path: Path, kind: str, at_once: str
) -> None:
    """One picture of two masks' images, told each time; the same command then ends as if it had been there always."""
    asked = ("export", masked.root, tmp_path / "out", "--format", kind, "--images-per-file", at_once)
    export(engine, masked, tmp_path / "whole", kind, "--images-per-file", at_once)
    with replaced(masked.photos / "b.jpg", None):
        for _ in range(2):
            found = engine(*asked)
            assert (found.status, found.err.count("left out: ")) == (1, 1), found.err
            assert "b.jpg: no such file; if the images moved, `sam-engine ingest" in found.err
            assert f"3 images, {2 * MASKS_PER_IMAGE} masks as {kind}" in found.out
    lacking, whole = contents(tmp_path / "out"), contents(tmp_path / "whole")
    assert len(lacking.keys() - whole.keys()) == 1  # the note
    assert engine(*asked).status == 0
    assert contents(tmp_path / "out") == whole


def test_others_are_read_back(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    with replaced(masked.photos / "a.png", (masked.photos / "d.webp").read_bytes()):
        for kind in ("coco", "huggingface"):
            found = engine("export", masked.root, tmp_path / kind, "--format", kind)
            assert found.status == 1
            assert "a.png: the file has other bytes than when it was ingested" in found.err
    (note,) = (tmp_path / "coco" / "left_out").iterdir()
    gone = json.loads(note.read_text())["image_id"]
    others = {row["mask_id"] for row in masked.masks.to_pylist() if row["image_id"] != gone}
    read = COCO(str(tmp_path / "coco" / "instances.json"))
    assert {entry["mask_id"] for entry in read.anns.values()} == others
    assert all((tmp_path / "coco" / "images" / entry["file_name"]).exists() for entry in read.imgs.values())
    rows = pq.read_table(tmp_path / "huggingface" / "data").to_pylist()
    assert {row["image_id"] for row in rows} == masked.images.keys() - {gone}
    assert f"3 images, {len(others)} masks" in (tmp_path / "huggingface" / "README.md").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_without_any_picture_is_one_line(engine: Engine, masked: Masked, tmp_path: Path, kind: str) -> None:
    """As of a disk that is not mounted."""
    away = masked.photos.rename(tmp_path / "away")
    try:
        found = engine("export", masked.root, tmp_path / "out", "--format", kind)
    finally:
        away.rename(masked.photos)
    assert found.status == 2
    assert "no picture can be read: " in found.err
    export(engine, masked, tmp_path / "out", kind)
    export(engine, masked, tmp_path / "whole", kind)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
