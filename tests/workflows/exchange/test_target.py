"""What lies where an export goes: another one, half of one, files of somebody else's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas import layout
from schemas.tables import EVENTS
from tests.schemas import rows
from tests.schemas.rows import discs
from tests.workflows.conftest import Engine
from tests.workflows.exchange.conftest import Masked, contents, export
from tests.workflows.report.data_sets import DataSet, done, run_record
from workflows.exchange.pictures import Picture
from workflows.exchange.selection import ExportImage, Page, Selection
from workflows.exchange.writers import Job
from workflows.sql import connect
from workflows.storage import Entry, LocalStore


def test_another_export_is_not_mixed_in(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(engine, masked, out, "coco")
    refused = engine("export", masked.root, out, "--format", "sa1b")
    assert refused.status == 2
    assert "holds another export (of another format); --overwrite begins anew" in refused.err
    chosen = engine("export", masked.root, out, "--format", "coco", "--where", "area > 1")
    assert "holds another export (of another where); --overwrite begins anew" in chosen.err  # not "committed"
    (out / "notes.txt").write_text("mine")
    export(engine, masked, out, "sa1b", "--overwrite")
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "instances.json").exists()
    assert not list((out / "images").iterdir())
    assert (out / "sa_1.json").exists()


def stops(engine: Engine, command: tuple[object, ...], folder: Path) -> None:
    """An export into `out` says that another was begun there, and leaves what that one writes into `alone`."""
    stopped = engine(*command, folder / "out")
    assert stopped.status == 2
    assert "out was begun anew by another command meanwhile; this export stops\n" in stopped.err
    assert contents(folder / "out") == contents(folder / "alone")


@pytest.mark.parametrize("kind", ["huggingface", "labels", "coco", "webdataset"])
def test_an_export_stops_when_another_is_begun_in_its_place(
    engine: Engine, masked: Masked, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files would lie among those of the other, whose record says of all what they are."""
    command = ("export", masked.root, "--format", kind, "--images-per-file", "1")
    chosen = ("--where", "area > 100")
    assert engine(*command, tmp_path / "alone", *chosen).status == 0
    load, loaded = Selection.load, list[int]()

    def meanwhile(self: Selection, page: Page) -> list[ExportImage]:
        found = load(self, page)
        loaded.append(page.number)
        if loaded == [0, 1]:
            assert engine(*command, tmp_path / "out", *chosen, "--overwrite").status == 0
        return found

    monkeypatch.setattr(Selection, "load", meanwhile)
    stops(engine, command, tmp_path)


@pytest.mark.parametrize("kind", ["sa1b", "coco", "imagefolder", "labels"])
def test_no_picture_comes_late_either(
    engine: Engine, masked: Masked, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that was at a picture of its second page meanwhile would have put it beside those of fewer images."""
    command = ("export", masked.root, "--format", kind, "--images-per-file", "1")
    chosen = ("--licences", "CC0*")
    assert engine(*command, tmp_path / "alone", *chosen).status == 0
    picture, read = Job.picture, list[str]()

    def meanwhile(self: Job, image: ExportImage) -> Picture:
        read.append(image.image_id)
        if len(read) == 2:
            assert engine(*command, tmp_path / "out", *chosen, "--overwrite").status == 0
        return picture(self, image)

    monkeypatch.setattr(Job, "picture", meanwhile)
    stops(engine, command, tmp_path)


def test_a_picture_that_came_late_is_not_taken_for_this_export_s_own(
    engine: Engine, masked: Masked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SA-1B numbers pictures: the same name is another picture where other images are chosen."""
    command, chosen = ("export", masked.root, "--format", "sa1b"), ("--licences", "CC BY*")
    assert engine(*command, tmp_path / "alone", *chosen).status == 0
    assert engine(*command, tmp_path / "out").status == 0
    load = Selection.load

    def late(self: Selection, page: Page) -> list[ExportImage]:
        (tmp_path / "out" / "sa_1.jpg").write_bytes(b"of the other export")
        return load(self, page)

    monkeypatch.setattr(Selection, "load", late)
    assert engine(*command, tmp_path / "out", *chosen, "--overwrite").status == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


@pytest.mark.parametrize("kind", ["sa1b", "labels"])
@pytest.mark.parametrize("deleted", [1, 6])
def test_what_is_half_deleted_is_not_gone_on_with(
    engine: Engine, masked: Masked, tmp_path: Path, kind: str, deleted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last file of a page, which commits it, was there still; a file of somebody else's is no hindrance."""
    out, command = tmp_path / "out", ("export", masked.root, tmp_path / "out", "--format", kind)
    assert engine(*command).status == 0
    whole = contents(out)
    (out / "notes.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", _dying_after(deleted))
        assert engine(*command, "--overwrite").status == 130
    refused = engine(*command)
    assert refused.status == 2
    assert "holds another export (which an --overwrite was deleting); --overwrite begins anew" in refused.err
    assert engine(*command, "--overwrite").status == 0
    assert contents(out) == whole | {"notes.txt": b"mine"}


def test_an_overwrite_that_ended_before_its_first_file_goes_on(
    engine: Engine, masked: Masked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export(engine, masked, out, "coco")
    (out / "notes.txt").write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put_if_absent", _dying_after(0))
        assert engine("export", masked.root, out, "--format", "sa1b", "--overwrite").status == 130
    export(engine, masked, out, "sa1b")
    assert sorted(path.name for path in out.glob("sa_*.json")) == ["sa_1.json", "sa_2.json", "sa_3.json", "sa_4.json"]


def test_the_same_export_that_begins_at_the_same_moment_is_gone_on_with(
    engine: Engine, masked: Masked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files came between two looks at the folder: they were taken for somebody else's, beside no record."""
    command, look = ("export", masked.root, tmp_path / "out", "--format", "coco"), LocalStore.list
    root, met = str(tmp_path / "out"), list[int]()

    def meanwhile(self: LocalStore, folder: str = "", **more: Any) -> Iterator[Entry]:
        if self.root == root and not met:
            met.append(1)
            assert engine(*command).status == 0
        return look(self, folder, **more)

    monkeypatch.setattr(LocalStore, "list", meanwhile)
    assert engine(*command).status == 0
    assert met


def test_what_an_export_is_not_of_may_grow(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    """Another run and a person's mask change what is exported of everything, and nothing of one run."""
    root = shutil.copytree(masked.root, tmp_path / "dataset")
    image_id = masked.masks["image_id"][0].as_py()

    def exported() -> dict[str, int]:
        outs = {name: tmp_path / f"out{name}" for name in ("@first", "@annotations", "@masks", "")}
        command = ("--format", "coco", "--no-pictures")
        return {name: engine("export", f"{root}{name}", out, *command).status for name, out in outs.items()}

    def draw(session: str) -> None:
        drawn = rows.annotation(f"{session}.1", 1, discs(1)[0], image_id=image_id, session=session)
        rows.put(root, layout.annotations_key(session, 1), drawn)

    draw("ada")
    assert exported() == {"@first": 0, "@annotations": 0, "@masks": 0, "": 0}
    whole = contents(tmp_path / "out@first")
    DataSet(root).add_run([done(image_id, discs(2, seed=9), rng=np.random.default_rng(0))], run_record("two"))
    assert exported() == {"@first": 0, "@annotations": 0, "@masks": 2, "": 2}
    draw("bo")
    assert exported() == {"@first": 0, "@annotations": 2, "@masks": 2, "": 2}
    assert contents(tmp_path / "out@first") == whole


def test_images_on_which_people_saw_nothing_are_images_too(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    """Those that teach a detector what is none were lost. One more of them is another export."""
    root, out = shutil.copytree(masked.root, tmp_path / "dataset"), tmp_path / "out"
    empty, other, audited, _ = sorted(masked.images)
    name_of = dict(connect(str(root)).execute("SELECT image_id, parse_filename(uri) FROM images").fetchall())
    rows.put(root, layout.annotations_key("ada", 1), rows.annotation("ada.1", 1, discs(1)[0], image_id=other))
    command = ("export", f"{root}@annotations", out, "--format", "coco", "--no-pictures")

    def finish(session: str, image_id: str, stage: str) -> None:
        event = {"session": session, "sequence": 1, "annotator": "ada", "image_id": image_id, "stage": stage}
        event |= {"action": "finish", "active": 1.0, "happened_at": rows.NAIVE_START}
        rows.put(root, layout.events_key(session, 1), pa.Table.from_pylist([event], schema=EVENTS))

    finish("audit", audited, "audit")
    finish("bo", other, "assisted_manual")
    assert engine(*command).status == 0
    assert len(json.loads((out / "instances.json").read_text())["images"]) == 1
    finish("ada", empty, "assisted_manual")
    assert "the data set has changed since" in engine(*command).err
    assert engine(*command, "--overwrite").status == 0
    document = json.loads((out / "instances.json").read_text())
    assert (len(document["images"]), len(document["annotations"])) == (2, 1)
    assert engine(*command, "--overwrite", "--where", "annotator = 'bo'").status == 0
    (image,) = json.loads((out / "instances.json").read_text())["images"]  # ada's is not empty
    assert image["file_name"] == name_of[empty]


def _dying_after(deleted: int) -> Callable[..., None]:
    """A `delete` that works so many times."""
    left, delete = iter(range(deleted)), LocalStore.delete

    def dies(store: LocalStore, key: str, *_: bytes) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        delete(store, key)

    return dies


def test_a_folder_of_others_is_left_alone(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    for more in ((), ("--overwrite",)):
        refused = engine("export", masked.root, masked.photos, "--format", "coco", *more)
        assert refused.status == 2
        assert "is not empty and holds no export" in refused.err
    assert len(list(masked.photos.iterdir())) == 4
