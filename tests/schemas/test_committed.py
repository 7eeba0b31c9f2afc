"""What counts in a data set, and what is said when it is none or damaged."""

import json
import threading
from dataclasses import replace
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from schemas import committed, layout
from schemas.committed import Place, committed_files, open_place, run_records
from schemas.records import to_json
from tests.schemas import rows


def test_a_shard_counts_once_its_outcomes_are_there(tmp_path: Path) -> None:
    place = open_place(rows.new_dataset(tmp_path))
    assert committed_files(place).sizes == {}
    masks, outcomes = rows.put_shard(tmp_path, 0, {"a": 3})
    sizes = {
        layout.masks_key(rows.RUN, 0): masks.stat().st_size,
        layout.outcomes_key(rows.RUN, 0): outcomes.stat().st_size,
    }
    assert committed_files(place).sizes == sizes
    _, unfinished = rows.put_shard(tmp_path, 1, {"b": 2})
    unfinished.unlink()
    assert committed_files(place).sizes == sizes


def test_a_shard_that_is_committed_while_files_are_listed_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks at a data set that is being made would be told to delete an outcomes file of it."""
    place = open_place(rows.new_dataset(tmp_path))
    listing, numbers = committed._listing, count()

    def meanwhile(*what: object) -> dict[str, int]:
        found = listing(*what)  # type: ignore[arg-type]
        rows.put_shard(tmp_path, next(numbers), {"a": 1})
        return found

    monkeypatch.setattr(committed, "_listing", meanwhile)
    assert committed_files(place).sizes == {}
    monkeypatch.undo()
    assert len(committed_files(place).sizes) == 2 * next(numbers)


def test_every_kind_of_table_is_listed_and_strangers_are_not(tmp_path: Path) -> None:
    place = open_place(rows.new_dataset(tmp_path))
    expected = {
        layout.images_key("1"): rows.images([("a", "a")]),
        layout.annotations_key("s1", 1): rows.annotation("m", 1, rows.discs(1)[0]),
        layout.events_key("s1", 1): rows.plan({0: ["a"]}),
    }
    for key, table in expected.items():
        rows.put(tmp_path, key, table)
    for stranger in (
        "images/.part-2.parquet.tmp",
        "images/notes.txt",
        "outcomes/run=x/README",
        "plans/run=x/part-0001.parquet",
    ):
        rows.put(tmp_path, stranger, "?")
    assert set(committed_files(place).sizes) == set(expected)


def test_outcomes_without_masks_are_damage(tmp_path: Path) -> None:
    place = open_place(rows.new_dataset(tmp_path))
    masks, _ = rows.put_shard(tmp_path, 0, {"a": 3})
    masks.unlink()
    with pytest.raises(ValueError, match=r"is damaged: masks/run=.*shard-00000000\.parquet is gone") as caught:
        committed_files(place)
    assert "delete that outcomes file and run the same command again" in str(caught.value)


def test_places_that_are_no_data_set(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"is not a data set: it has no dataset\.json"):
            open_place(folder)
    with pytest.raises(ValueError, match="s3://bucket/x is not local: pass the pyarrow file system that reads it"):
        open_place("s3://bucket/x")


def test_a_newer_data_set_is_refused(tmp_path: Path) -> None:
    path = rows.new_dataset(tmp_path) / layout.DATASET_KEY
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    with pytest.raises(ValueError, match=r"dataset\.json has format version 2"):
        open_place(tmp_path)


def test_records_are_read_from_their_keys(tmp_path: Path) -> None:
    place = open_place(rows.new_dataset(tmp_path), pafs.LocalFileSystem())
    rows.put(tmp_path, layout.run_key("b"), to_json(rows.run_record("b")))
    rows.put(tmp_path, layout.run_key("a"), to_json(rows.run_record("a")))
    rows.put(tmp_path, "runs/.a.json.tmp", "{")
    assert run_records(place) == [rows.run_record("a"), rows.run_record("b")]
    rows.put(tmp_path, layout.run_key("a"), "{")
    with pytest.raises(ValueError, match=r"runs/a\.json is not JSON"):
        run_records(place)


class Together(pafs.LocalFileSystem):
    """Opens a run's record once another one is asked for as well."""

    def __init__(self) -> None:
        super().__init__()
        self.two = threading.Barrier(2)

    def open_input_stream(self, path: str) -> pa.NativeFile:  # type: ignore[override]
        self.two.wait(timeout=10)
        return super().open_input_stream(path)


def test_records_are_read_side_by_side(tmp_path: Path) -> None:
    """In an object store each is a request, and every command reads those of all runs before it does anything."""
    rows.new_dataset(tmp_path)
    names = [f"run-{number}" for number in range(4)]
    for name in names:
        rows.put(tmp_path, layout.run_key(name), to_json(replace(rows.run_record(), run_id=name)))
    found = run_records(Place(Together(), tmp_path.as_posix()))
    assert [record.run_id for record in found] == names
