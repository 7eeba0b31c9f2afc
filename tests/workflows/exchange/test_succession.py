"""Sources that are imported again: corrected, turned back, killed half-way, or corrected after a person was at work."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools.coco import COCO

from schemas.layout import EVENTS_PREFIX
from schemas.tables import Stage
from tests.workflows.conftest import Engine, save_photos
from tests.workflows.exchange.conftest import coco_document
from workflows.annotate.contract import Save, SavedMask
from workflows.annotate.journal import Journal, Task
from workflows.exchange import importing
from workflows.sql import connect
from workflows.storage import LocalStore, Store, open_store

Document = dict[str, Any]


class Source:
    """A COCO file of two photographs with two masks each, and the data set that it is imported into."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.path, self.data = engine, folder / "x.json", folder / "data"
        self.document: Document = coco_document(save_photos(folder / "images", 2))
        del self.document["annotations"][4]

    def corrected(self, *gone: int, **moved: float) -> Document:
        """The document without some annotations, or with another last corner of number 10."""
        document: Document = json.loads(json.dumps(self.document))
        document["annotations"] = [one for one in document["annotations"] if one["id"] not in gone]
        for one in document["annotations"]:
            if one["id"] == 10 and "corner" in moved:
                one["segmentation"][0][-1] = moved["corner"]
        return document

    def bring(self, document: Document, *arguments: str) -> str:
        """Import the file as it is now; what was said."""
        self.path.write_text(json.dumps(document))
        done = self.engine("import", self.path, self.data, *arguments)
        assert done.status in (0, 1), done.err
        return str(done.out)

    def stands(self) -> set[tuple[str, bytes]]:
        """Number and counts of every mask of the data set."""
        found = connect(str(self.data)).execute("SELECT mask_id, rle FROM annotations").fetchall()
        return {(mask_id.rsplit(".", 1)[1], rle) for mask_id, rle in found}

    def holds(self) -> set[tuple[str, bytes]]:
        """Number and counts of every mask of the file, by pycocotools."""
        read = COCO(str(self.path))
        counts = {number: read.annToRLE(one)["counts"] for number, one in read.anns.items()}
        return {(str(n), text if isinstance(text, bytes) else text.encode()) for n, text in counts.items()}


@pytest.fixture
def source(engine: Engine, tmp_path: Path) -> Source:
    return Source(engine, tmp_path)


def test_a_correction_follows_an_import_whose_clock_was_ahead(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names stand, and again it adds nothing."""
    with monkeypatch.context() as machine:
        machine.setattr("workflows.image_rows.now", lambda: datetime(2100, 1, 1))
        source.bring(source.document)
    corrected = source.corrected(11) | {"categories": [{"id": 1, "name": "corrected"}, {"id": 2, "name": "too"}]}
    source.bring(corrected)
    assert source.stands() == source.holds()
    assert ": 0 masks imported" in source.bring(corrected)
    told = "SELECT arg_max(details->>'category', happened_at) FROM events WHERE mask_id IS NOT NULL GROUP BY mask_id"
    assert ("corrected",) in connect(str(source.data)).execute(told).fetchall()


def test_the_newest_import_of_a_source_stands(source: Source) -> None:
    """Changed, shortened, and turned back to what it was."""
    for document in (
        source.document,
        source.corrected(corner=44.0),
        source.corrected(11, 12),
        source.document,
        source.corrected(10, 11, 12, 13),
        source.document,
    ):
        source.bring(document)
        assert source.stands() == source.holds()


def test_what_did_not_change_is_not_written_again(source: Source) -> None:
    """A corrected source of a million masks would grow the data set by a million rows each time."""
    source.bring(source.document)
    assert ": 1 masks imported" in source.bring(source.corrected(corner=44.0))
    revisions = "SELECT right(mask_id, 2), max(revision) FROM annotation_revisions GROUP BY 1 ORDER BY 1"
    assert connect(str(source.data)).execute(revisions).fetchall() == [("10", 2), ("11", 1), ("12", 1), ("13", 1)]
    renamed = source.corrected(corner=44.0)
    source.bring(renamed, "--annotator", "Bob")  # who drew it is of a mask
    assert {revision for _, revision in connect(str(source.data)).execute(revisions).fetchall()} == {2, 3}
    assert source.stands() == source.holds()


def test_a_time_that_a_source_states_is_part_of_a_mask(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path
) -> None:
    tasks = labelled()
    (task,) = json.loads(tasks.read_text())
    for meta, moment, revisions in (("a", "31T12:00", {1}), ("b", "31T12:00", {1}), ("c", "30T12:00", {2})):
        task["meta"] = meta  # another content, another import
        task["annotations"][0]["created_at"] = f"2026-01-{moment}:00Z"
        tasks.write_text(json.dumps([task]))
        assert engine("import", tasks, tmp_path / "data").status == 0
        found = connect(str(tmp_path / "data")).execute("SELECT DISTINCT revision FROM annotations").fetchall()
        assert {revision for (revision,) in found} == revisions


def test_what_is_removed_is_said_and_every_reader_sees_it(source: Source, engine: Engine, tmp_path: Path) -> None:
    source.bring(source.document)
    assert "0 masks imported" in (said := source.bring(source.corrected(13)))
    assert "1 removed that it no longer holds" in said
    assert "0 masks imported" in (said := source.bring(source.corrected(13)))
    assert "it no longer holds" not in said
    for name in ("", "@annotations"):
        out = tmp_path / f"out{name}"
        assert engine("export", f"{source.data}{name}", out, "--format", "coco").status == 0
        assert len(COCO(str(out / "instances.json")).anns) == 3
    sql = "SELECT revision, deleted FROM annotation_revisions WHERE mask_id LIKE '%.13' ORDER BY revision"
    assert connect(str(source.data)).execute(sql).fetchall() == [(1, False), (2, True)]


def test_pictures_that_are_not_whole_or_not_named_keep_their_masks(source: Source, tmp_path: Path) -> None:
    source.bring(source.document)
    before = source.stands()
    broken = source.corrected(12)  # of the picture of 10
    broken["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    source.bring(broken)
    assert source.stands() == before
    fewer = source.corrected(11, 13)
    fewer["images"] = fewer["images"][:1]
    source.bring(fewer)
    assert source.stands() == before
    Image.new("RGB", (10, 10)).save(tmp_path / "images" / "photo-000.png")
    source.bring(source.corrected(10, 12))
    assert source.stands() == before


def test_another_file_takes_nothing_away(source: Source, tmp_path: Path) -> None:
    source.bring(source.document)
    source.path = tmp_path / "y.json"
    source.bring(source.corrected(10, 11, 12))
    assert len(source.stands()) == 4
    assert connect(str(source.data)).execute("SELECT count(*) FROM annotations").fetchall() == [(5,)]


def test_what_a_person_changed_since_stays(source: Source) -> None:
    source.bring(source.document)
    _edit(source, "10", rle=_counts(source, "12"))
    _edit(source, "11", deleted=True)
    source.bring(source.corrected(10, corner=44.0))
    source.bring(source.corrected(corner=44.0))
    masks = dict(source.stands())
    assert (masks.keys(), masks["10"]) == ({"10", "12", "13"}, _counts(source, "12"))


class Asked:
    """The data set's tables, and every statement that was asked of them."""

    def __init__(self, data: str) -> None:
        self._catalog = connect(data)
        self.statements: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._catalog, name)
        if name not in ("sql", "execute"):
            return found
        return lambda statement, *rest, **named: self.statements.append(statement) or found(statement, *rest, **named)


def test_the_data_set_is_asked_once_and_for_revisions_only_where_another_import_was(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of shards: two here."""
    monkeypatch.setattr(importing, "IMAGES_PER_SHARD", 1)
    asked: list[Asked] = []
    monkeypatch.setattr(importing, "connect", lambda data: asked.append(Asked(data)) or asked[-1])
    source.bring(source.document)
    source.bring(source.document)
    source.bring(source.corrected(corner=44.0))
    times = [sum("annotation_revisions" in statement for statement in one.statements) for one in asked]
    assert times == [0, 0, 1]
    assert [sum("FROM images" in statement for statement in one.statements) for one in asked] == [1, 1, 1]
    assert source.stands() == source.holds()


def test_what_is_done_is_listed_and_not_looked_for_shard_by_shard(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an object store each look is a request, and nothing is said meanwhile."""
    monkeypatch.setattr(importing, "IMAGES_PER_SHARD", 1)
    looked_for: list[str] = []
    whole = LocalStore.exists
    monkeypatch.setattr(LocalStore, "exists", lambda store, key: looked_for.append(key) or whole(store, key))
    source.bring(source.document)
    source.bring(source.document)
    assert not [key for key in looked_for if key.startswith(EVENTS_PREFIX)]
    assert source.stands() == source.holds()


def _counts(source: Source, number: str) -> bytes:
    return dict(source.stands())[number]


def _edit(source: Source, number: str, **changes: Any) -> None:
    """As the app saves it."""
    sql = f"SELECT mask_id, image_id, rle FROM annotations WHERE mask_id LIKE '%.{number}'"
    ((mask_id, image_id, rle),) = connect(str(source.data)).execute(sql).fetchall()
    row = {"mask_id": mask_id, "image_id": image_id, "rle": rle, "revision": 2, "created_at": datetime.now(UTC)}
    task = Task(Stage.ASSISTED_MANUAL, None, "a-model")
    journal = Journal(open_store(str(source.data)), task, {image_id: (48, 64)})
    journal.save(f"Ada-{number}", 1, Save(annotator="Ada", masks=[SavedMask.model_validate(row | changes)]))


@pytest.mark.parametrize("table", ["masks", "events"])
def test_a_correction_that_was_killed_goes_on(source: Source, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """One picture to a shard, killed before or after the masks of the second one are there."""
    monkeypatch.setattr(importing, "IMAGES_PER_SHARD", 1)
    source.bring(source.document)
    with monkeypatch.context() as patch:
        patch.setattr(type(open_store(str(source.data))), "put", _dying(table))
        source.path.write_text(json.dumps(source.corrected(12, 13, corner=44.0)))
        assert source.engine("import", source.path, source.data).status == 130
    source.bring(source.corrected(12, 13, corner=44.0))
    assert source.stands() == source.holds()
    source.bring(source.document)
    assert source.stands() == source.holds()


def test_a_first_import_that_was_killed_before_its_events_is_followed(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(open_store(str(source.data))), "put", _dying("events", part=1))
        source.path.write_text(json.dumps(source.document))
        assert source.engine("import", source.path, source.data).status == 130
    source.bring(source.corrected(12, 13, corner=44.0))
    assert source.stands() == source.holds()


def test_a_correction_that_was_killed_before_its_events_is_turned_back(
    source: Source, monkeypatch: pytest.MonkeyPatch, engine: Engine, tmp_path: Path
) -> None:
    """Its masks stood, as nobody knew of it: the newest import that was known was the same as the source is now."""
    source.bring(source.document)
    with monkeypatch.context() as patch:
        patch.setattr(type(open_store(str(source.data))), "put", _dying("events", part=1))
        source.path.write_text(json.dumps(source.corrected(12, 13, corner=44.0)))
        assert source.engine("import", source.path, source.data).status == 130
    source.bring(source.document)
    assert source.stands() == source.holds()
    assert "0 masks imported" in source.bring(source.document)
    assert engine("export", source.data, tmp_path / "out", "--format", "coco").status == 0
    assert len(COCO(str(tmp_path / "out" / "instances.json")).anns) == 4


def test_no_revision_of_a_correction_that_was_killed_is_taken_back(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person went on from what it had written; the same command again writes nothing more of that mask."""
    source.bring(source.document)
    with monkeypatch.context() as patch:
        patch.setattr(type(open_store(str(source.data))), "put", _dying("events", part=1))
        source.path.write_text(json.dumps(source.corrected(12, corner=44.0)))
        assert source.engine("import", source.path, source.data).status == 130
    _edit(source, "10", revision=3, rle=_counts(source, "13"))
    sql = "SELECT mask_id, revision, rle, deleted, annotator FROM annotation_revisions ORDER BY mask_id, revision"
    before = connect(str(source.data)).execute(sql).fetchall()
    source.bring(source.corrected(12, corner=44.0))
    assert connect(str(source.data)).execute(sql).fetchall() == before


def _dying(table: str, *, part: int = 2) -> Any:
    """A `put` that dies at a part of a table of annotations."""
    put = type(open_store("/")).put

    def dies(store: Store, key: str, data: bytes) -> None:
        if key.startswith(f"annotations/{table}/") and key.endswith(f"part-{part:08}.parquet"):
            raise KeyboardInterrupt
        put(store, key, data)

    return dies
