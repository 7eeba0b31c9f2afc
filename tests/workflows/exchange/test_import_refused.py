"""Sources of an import that are none, shapes that are no masks, and documents that lie."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflows.conftest import Engine, Finished, save_photos
from tests.workflows.exchange.conftest import Masked, coco_document, replaced
from tests.workflows.exchange.test_import import CVAT, rows, stated
from workflows.exchange.commands import ImportConfig
from workflows.exchange.readers import IncomingImage
from workflows.exchange.readers.opening import open_source
from workflows.exchange.readers.sa1b import Sa1bSource
from workflows.storage import StoreError


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('<box label="x" xtl="0" ytl="0" xbr="2" ybr="2"></box>', "box 0.2: is no mask"),
        ('<mask rle="1, 2" left="11" top="0" width="3" height="1"></mask>', "its box 11,0 3x1 leaves the image"),
        ('<mask rle="1, 9" left="0" top="0" width="3" height="1"></mask>', "its run lengths do not fill its box"),
        ('<mask rle="a" left="0" top="0" width="3" height="1"></mask>', "mask 0.2"),
        ('<polygon label="x"></polygon>', "it has no 'points'"),
        ('<polygon label="x" points="0,0;nan,0;4,4"></polygon>', "a polygon has half a corner, or lies far outside"),
    ],
)
def test_shapes_that_are_no_masks(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path, more: str, message: str
) -> None:
    labelled()
    (tmp_path / "tasks.xml").write_text(CVAT.format(more=more))
    finished = engine("import", tmp_path / "tasks.xml", tmp_path / "data")
    assert finished.status == 1
    assert message in finished.err
    assert "2 masks imported" in finished.out
    is_said_again(finished, engine("import", tmp_path / "tasks.xml", tmp_path / "data"))


def is_said_again(first: Finished, again: Finished) -> None:
    """The second import brings nothing more, and does not say that all is well."""
    lines = re.findall("^left out: .*", first.err, re.MULTILINE)
    assert lines
    assert (again.status, re.findall("^left out: .*", again.err, re.MULTILINE)) == (1, lines)
    assert again.out == re.sub(r": \d+ masks", ": 0 masks", first.out)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa">]><annotations>&a;</annotations>'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.xml", BOMB, "not a CVAT XML"),
        ("x.xml", "<annotations>", "not a CVAT XML"),
        ("x.xml", "<annotations></annotations>", "no <image>"),
        ("x.xml", CVAT.replace("one.png", "../one.png.gone"), "no picture '../one.png.gone' in"),
        ("x.xml", CVAT.replace('width="12" height="9"', 'width="99999" height="99999"'), "outside of the limits"),
        ("x.json", "[1]", "a list that is no Label Studio export"),
        ("x.json", "{", "is not JSON"),
        ("x.json", '[{"data": {"a": "x", "b": "y"}, "annotations": []}]', "its data has no field 'image'"),
        ("x.json", '{"images": [], "annotations": []}', "no images found"),
        ("x.json", '[{"data": {"image": "one.png"}, "annotations": [], "predictions": [{}]}]', "predictions alone"),
        ("X.JSON", "{", "is not JSON"),
    ],
)
def test_sources_that_are_none(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path, name: str, text: str, message: str
) -> None:
    labelled()
    (tmp_path / name).write_text(text)
    finished = engine("import", tmp_path / name, tmp_path / "data")
    assert finished.status == 2
    assert message in finished.err
    assert finished.err.strip().count("\n") == 0
    assert not (tmp_path / "data").exists()


def test_two_names_of_one_picture_may_mean_another(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path
) -> None:
    """Of two pictures of a name, in folders that are not there, the masks of both were put on whichever was there."""
    (task,) = json.loads(labelled().read_text())
    tasks = [task, task | {"data": {"image": "/data/upload/1/4567abcd-one.png"}}]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    whole = CVAT.format(more="").replace("one.png", "front/one.png")
    other = whole[whole.index("<image") : whole.index("</annotations>")].replace("front/", "back/")
    (tmp_path / "tasks.xml").write_text(whole.replace("</annotations>", f"{other}</annotations>"))
    for name, names in (("tasks.json", "0123abcd-one.png"), ("tasks.xml", "'front/one.png' and 'back/one.png'")):
        refused = engine("import", tmp_path / name, tmp_path / "data")
        assert (refused.status, refused.err.count("\n")) == (2, 1)
        assert names in refused.err
        assert f"both lead to {tmp_path}/images/one.png, though their names differ" in refused.err


def test_an_id_twice_on_one_picture_costs_its_second_mask(engine: Engine, tmp_path: Path) -> None:
    """It cost all of the picture's."""
    document = coco_document(save_photos(tmp_path / "images", 3))
    document["annotations"][2]["id"] = document["annotations"][0]["id"]
    (tmp_path / "x.json").write_text(json.dumps(document))
    done = engine("import", tmp_path / "x.json", tmp_path / "data")
    assert (done.status, "3 masks imported" in done.out, "1 left out" in done.out) == (1, True, True)
    assert "mask 10: has the id of one before it on the same picture" in done.err
    assert len(rows(tmp_path / "data", "SELECT * FROM annotations")) == 3
    is_said_again(done, engine("import", tmp_path / "x.json", tmp_path / "data"))


def test_an_id_of_two_pictures_is_refused(engine: Engine, tmp_path: Path) -> None:
    """The masks of either were put on both."""
    document = coco_document(save_photos(tmp_path / "images", 3))
    document["images"][1]["id"] = document["images"][0]["id"]
    (tmp_path / "x.json").write_text(json.dumps(document))
    refused = engine("import", tmp_path / "x.json", tmp_path / "data")
    assert refused.status == 2
    assert (
        "x.json: two images have the same id, so whose the masks are cannot be told (7: 'photo-000.png'" in refused.err
    )


@pytest.mark.parametrize("numbers", [(8, 7), (7, 9)])
def test_a_document_that_changes_while_it_is_read_is_said(tmp_path: Path, numbers: tuple[int, int]) -> None:
    """It is read twice, for masks and for pictures; who exports anew may number both in another way."""
    document = coco_document(save_photos(tmp_path / "images", 2))
    source = tmp_path / "instances.json"
    source.write_text(json.dumps(document))
    opened = open_source(ImportConfig(str(source), str(tmp_path / "data")))
    for image, number in zip(document["images"], numbers, strict=True):
        image["id"] = number
    source.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"instances.json has changed while it was read; run the same command again$"):
        list(opened.references())


def test_an_image_folder_that_is_not_there_is_one_line(engine: Engine, tmp_path: Path) -> None:
    """Every picture of the document was said to be damaged, and noted in the data set so."""
    (tmp_path / "x.json").write_text(json.dumps(coco_document(save_photos(tmp_path / "images", 3))))
    for command in ("import", "ingest"):
        refused = engine(command, tmp_path / "x.json", tmp_path / "data", "--image-folder", tmp_path / "imags")
        assert (refused.status, refused.err) == (2, f"sam-engine: --image-folder {tmp_path}/imags: no such folder\n")
        assert not (tmp_path / "data").exists()


def test_a_region_without_the_size_of_its_picture_is_said(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path
) -> None:
    """It was passed over as if it were an answer about the whole picture."""
    finished = engine("import", labelled(original_height=None), tmp_path / "data")
    assert finished.status == 1
    assert "result[0]: original_height is None" in finished.err
    finished = engine("import", labelled(original_width=None), tmp_path / "data")
    assert finished.status == 1
    assert "result[0]: original_width is None" in finished.err


def test_places_that_are_none(engine: Engine, tmp_path: Path) -> None:
    coco, empty = tmp_path / "coco", tmp_path / "empty"
    coco.mkdir()
    empty.mkdir()
    (coco / "instances.json").write_text("{}")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "TASKS.JSON").write_text("[]")
    for source, message in (
        (tmp_path / "a.png", "a.png: no folder; a source is a folder of SA-1B, a .json or an .xml"),
        (tmp_path / "TASKS.JSON", "a list that is no Label Studio export"),
        (tmp_path / "none", "no such folder"),
        ("https://example.org/x.json", "local paths and s3:// only"),
        (empty, "no *.json here"),
        (coco, f"a folder with COCO; import {coco}/instances.json"),
    ):
        finished = engine("import", source, tmp_path / "data")
        assert finished.status == 2
        assert message in finished.err


def test_sa1b_documents_that_lie_about_their_picture(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert engine("export", masked.root, out, "--format", "sa1b").status == 0
    document = json.loads((out / "sa_1.json").read_text())
    document["image"]["file_name"] = "../../secret.jpg"
    with replaced(out / "sa_1.json", json.dumps(document).encode()):
        finished = engine("import", out, tmp_path / "data")
        is_said_again(finished, engine("import", out, tmp_path / "data"))
    assert finished.status == 1
    assert "file_name is '../../secret.jpg', the picture beside it another" in finished.err
    assert rows(tmp_path / "data", "SELECT status, count(*) AS n FROM outcomes GROUP BY 1 ORDER BY 1") == [
        {"status": "error", "n": 1},
        {"status": "ok", "n": 3},
    ]


def test_a_data_set_in_its_source_is_refused(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    """Its own records were documents of SA-1B without a picture, and each import was another run of the same masks."""
    out = tmp_path / "out"
    assert engine("export", masked.root, out, "--format", "sa1b").status == 0
    (tmp_path / "link").symlink_to(out)
    for inside in (out, out / "data", tmp_path / "link" / "data"):
        refused = engine("import", out, inside)
        assert (refused.status, refused.err.count("\n")) == (2, 1)
        assert f"{inside} lies in {out}, whose documents those of the data set would be, too" in refused.err
    assert not (out / "dataset.json").exists()
    assert engine("import", out, f"{out}-data").status == 0


def test_a_picture_that_lost_all_of_its_masks_does_not_show_nothing(
    engine: Engine, masked: Masked, tmp_path: Path
) -> None:
    """It was an image on which a run had found nothing, and was exported as one."""
    out, data = tmp_path / "out", tmp_path / "data"
    assert engine("export", masked.root, out, "--format", "sa1b").status == 0
    document = json.loads((out / "sa_1.json").read_text())
    document["annotations"] = document["annotations"][:1]
    document["annotations"][0]["point_coords"] = []
    (out / "sa_1.json").write_text(json.dumps(document))
    finished = engine("import", out, data)
    assert finished.status == 1
    is_said_again(finished, engine("import", out, data))
    key, (picture,) = document["annotations"][0]["id"], out.glob("sa_1.[jp][pn]g")
    assert f"left out: {picture}: mask {key}: an automatic mask needs point_coords; --stage assisted" in finished.err
    assert rows(data, "SELECT status, count(*) AS n FROM outcomes GROUP BY 1 ORDER BY 1") == [
        {"status": "error", "n": 1},
        {"status": "ok", "n": 3},
    ]
    assert "3 images" in engine("export", data, tmp_path / "again", "--format", "coco").out


def test_sa1b_documents_without_a_picture_are_said(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert engine("export", masked.root, out, "--format", "sa1b").status == 0
    next(out.glob("sa_2.[jp]*g")).unlink()
    for _ in range(2):
        finished = engine("import", out, tmp_path / "data")
        assert (finished.status, "1 left out" in finished.out) == (1, True)
        assert f"left out: {out}/sa_2.json: no picture beside it" in finished.err
    assert len(rows(tmp_path / "data", "SELECT * FROM outcomes")) == 3


def test_a_store_that_fails_is_no_fault_of_a_picture(
    engine: Engine, masked: Masked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks that cannot be read for a moment would be left out for good: outcomes commit their shard."""
    out, back = tmp_path / "out", tmp_path / "back"
    assert engine("export", masked.root, out, "--format", "sa1b").status == 0

    def busy(*_: object) -> None:
        raise StoreError("cannot read s3://x/sa_1.json: SlowDown (6 attempts)")

    with monkeypatch.context() as patch:
        patch.setattr(Sa1bSource, "load", busy)
        broken = engine("import", out, back)
    assert (broken.status, broken.err.count("SlowDown")) == (2, 1)
    assert rows(back, "SELECT * FROM outcomes") == []
    assert engine("import", out, back).status == 0
    assert stated(rows(back, "SELECT * FROM masks")) == stated(masked.masks)


@pytest.mark.parametrize(("more", "table"), [((), "masks"), (("--stage", "assisted-manual"), "annotations")])
def test_a_document_that_cannot_be_read_is_asked_for_again(
    engine: Engine, masked: Masked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], table: str
) -> None:
    """Its bytes do not change when it can be: the import is the same one, of which each shard is done."""
    out, back, whole = tmp_path / "out", tmp_path / "back", tmp_path / "whole"
    assert engine("export", masked.root, out, "--format", "sa1b").status == 0
    assert engine("import", out, whole, *more).status == 0
    load = Sa1bSource.load

    def refused(source: Sa1bSource, uri: str) -> IncomingImage:
        if "/sa_2." in uri:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), f"{out}/sa_2.json")
        return load(source, uri)

    with monkeypatch.context() as patch:
        patch.setattr(Sa1bSource, "load", refused)
        for _ in range(2):
            left = engine("import", out, back, *more)
            assert (left.status, "1 left out" in left.out) == (1, True)
            assert f"left out: {out}/sa_2.json: Permission denied" in left.err
    assert 0 < len(rows(back, f"FROM {table}")) < len(rows(whole, f"FROM {table}"))
    assert engine("import", out, back, *more).status == 0
    drawn = f"SELECT image_id, rle, bbox_x, area, predicted_iou FROM {table} ORDER BY ALL"
    assert rows(back, drawn) == rows(whole, drawn)
    for name in ("outcomes", "events"):
        assert len(rows(back, f"FROM {name}")) == len(rows(whole, f"FROM {name}"))
    assert rows(back, "FROM problems") == []
    assert "0 masks imported" in engine("import", out, back, *more).out


@pytest.mark.parametrize(("more", "table"), [(("--stage", "automatic"), "masks"), ((), "annotations")])
def test_a_picture_that_is_gone_is_said_until_it_is_back(
    engine: Engine, tmp_path: Path, more: tuple[str, ...], table: str
) -> None:
    """Whoever repeats the command until it ends well does not end without that picture's masks."""
    photos = save_photos(tmp_path / "images", 3)
    document = coco_document(photos)
    scores = {"predicted_iou": 0.9, "stability_score": 0.95, "point_coords": [[5, 5]]}
    document["annotations"] = [mask | scores for mask in document["annotations"]]
    (tmp_path / "x.json").write_text(json.dumps(document))
    command = ("import", tmp_path / "x.json", tmp_path / "data", *more)
    with replaced(photos[0], None):
        first, again = engine(*command), engine(*command)
        for left in (first, again):
            assert (left.status, ", 1 left out" in left.out) == (1, True)
            assert f"left out: {photos[0]}: cannot be read as an image" in left.err
        assert [f" {masks} masks imported" in left.out for masks, left in ((2, first), (0, again))] == [True, True]
        assert len(rows(tmp_path / "data", f"FROM {table}")) == 2
    assert engine(*command).status == 0
    assert len(rows(tmp_path / "data", f"FROM {table}")) == 4
    assert rows(tmp_path / "data", "FROM problems") == []
