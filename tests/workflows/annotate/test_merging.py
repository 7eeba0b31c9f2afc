"""What was saved is the same before and after it was merged, whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.catalog import query
from schemas.layout import annotations_key, events_key, merger_key, parse_merged_key, parse_merger_key
from schemas.tables import Stage
from tests.workflows.annotate.conftest import MOMENT, blob, body, event_row, mask_row
from tests.workflows.store_troubles import QUICK_PATIENCE
from workflows.annotate import merging as module
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.contract import Save
from workflows.annotate.journal import ConflictError, Journal, Task
from workflows.annotate.merging import merge_saves, merging, saved_keys
from workflows.annotate.studio import open_studio
from workflows.exchange.commands import ExportConfig
from workflows.exchange.selection import Selection
from workflows.runs import open_dataset
from workflows.s3 import S3Store
from workflows.sql import connect
from workflows.storage import Entry, LocalStore, Store, StoreError

IMAGES = [letter * 32 for letter in "abc"]
VIEWS = ("annotations", "annotation_revisions", "events", "annotation_work")
TASK = Task(Stage.SEMI_AUTOMATIC, 2, "model-1")
AUDIT = Task(Stage.AUDIT, 2, "model-1")
PARTS = 12


def journal(store: Store, task: Task = TASK) -> Journal:
    return Journal(store, task, dict.fromkeys(IMAGES, (48, 64)))


def save(part: int, session: str, *, image: str | None = None) -> Save:
    """A mask and two events; every third mask goes on being revised, every fifth is deleted, some parts have none."""
    number = part if part % 3 else 3
    said: dict[str, Any] = {"mask_id": f"{session}.{number}", "revision": part, "deleted": part % 5 == 0}
    said |= {"source_mask_id": f"run.x.{part:05d}", "created_at": (MOMENT + timedelta(seconds=part)).isoformat()}
    where = image or IMAGES[number % 3]
    masks = [] if part % 4 == 0 else [mask_row(where, blob(48, 64, part), **said)]
    events = [event_row(2 * part + step, action, where) for step, action in enumerate(("open", "finish"))]
    return Save.model_validate(body(session, masks=masks, events=events))


def fill(store: Store) -> None:
    """Two people and an audit, in turns."""
    open_dataset(store)
    work, audit = journal(store), journal(store, AUDIT)
    for part in range(1, PARTS + 1):
        for session, told in (("ada", work), ("bob", work), ("eve", audit)):
            assert told.save(session, part, save(part, session))


def seen(store: Store) -> dict[str, object]:
    """All that is asked of what was saved, by SQL and by the server."""
    connection = connect(store.root)
    found: dict[str, object] = {view: query(connection, f"FROM {view} ORDER BY ALL").to_pylist() for view in VIEWS}
    for task in (TASK, AUDIT):
        reader = journal(store, task)
        found[f"{task.stage} events"] = list(reader.past_events())
        for image in IMAGES:
            found[f"{task.stage} {image}"] = (reader.decided(image), reader.count(image))
    found["export"] = Selection(ExportConfig(store.root, "out", format="coco")).fingerprint()
    return found


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "data")
    fill(store)
    return store


def test_everything_is_as_it_was_and_lies_in_few_files(store: LocalStore) -> None:
    before, files = seen(store), len(saved_keys(store))
    assert merge_saves(store, fewest=files + 1) == 0
    assert merge_saves(store, fewest=2, most=25) == files == len(saved_keys(store)) + files - 6
    assert all(map(parse_merged_key, saved_keys(store)))
    assert seen(store) == before
    assert merge_saves(store, fewest=1) == 0


def test_what_takes_a_while_is_said(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_WORTH_TELLING", 63)
    merge_saves(store, fewest=64)
    assert capsys.readouterr().err == ""
    merge_saves(store, fewest=1)
    assert capsys.readouterr().err == "merging 63 saved files\n"
    merge_saves(store, fewest=1)
    assert capsys.readouterr().err == ""


def test_what_is_saved_later_counts_beside_it(store: LocalStore, tmp_path: Path) -> None:
    """Also a part between others, which had waited in a browser."""
    at_once = LocalStore(tmp_path / "other")
    open_dataset(at_once)
    told, other = journal(store), journal(at_once)
    for session, part in (("ada", PARTS + 2), ("ada", PARTS + 3), ("zoe", 1)):
        told.save(session, part, save(part, session))
    assert merge_saves(store, fewest=1) > 0
    for session, part in (("ada", PARTS + 1), ("zoe", 2)):
        assert told.save(session, part, save(part, session))
    for part in range(1, PARTS + 4):
        for session, task in (("ada", TASK), ("bob", TASK), ("eve", AUDIT), ("zoe", TASK)):
            if part <= {"ada": PARTS + 3, "zoe": 2}.get(session, PARTS):
                journal(at_once, task).save(session, part, save(part, session))
    assert other.task_of(save(1, "ada")) == TASK
    wanted = seen(at_once)
    assert wanted == seen(store)
    assert merge_saves(store, fewest=1) == 4
    assert wanted == seen(store)


def test_a_save_that_is_sent_again_is_no_news_and_another_under_its_name_is_refused(store: LocalStore) -> None:
    before = seen(store)
    merge_saves(store, fewest=1)
    again = journal(store)
    assert not again.save("ada", 5, save(5, "ada"))
    with pytest.raises(ConflictError, match="is there already, with other content"):
        again.save("ada", 5, save(7, "ada"))
    assert seen(store) == before


class Failing:
    """A store whose process is killed before the nth write."""

    def __init__(self, store: LocalStore, writes: int) -> None:
        self._store, self._left = store, writes

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "put_if_absent"):
            self._left -= 1
            if self._left < 0:
                raise StoreError("killed")
        return getattr(self._store, name)


@pytest.mark.parametrize("writes", range(4))
def test_killed_at_any_write(store: LocalStore, writes: int) -> None:
    before = seen(store)
    with pytest.raises(StoreError, match="killed"):
        merge_saves(Failing(store, writes), fewest=1, most=25)  # type: ignore[arg-type]
    assert seen(store) == before
    merge_saves(store, fewest=1)
    assert all(map(parse_merged_key, saved_keys(store)))
    assert seen(store) == before


class Overtaken:
    """A store into which another server writes its mergers just before ours."""

    def __init__(self, store: LocalStore, other: Callable[[], object]) -> None:
        self._store, self._other = store, other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_if_absent(self, key: str, data: bytes) -> bytes:
        self._other()
        return self._store.put_if_absent(key, data)


@pytest.mark.parametrize("most", [7, 25, 1000])
def test_of_two_at_once_one_settles_it(store: LocalStore, most: int) -> None:
    """As of two servers that start at the same moment. What the other wrote stays, and nothing else does."""
    before = seen(store)
    overtaken = Overtaken(store, lambda: merge_saves(store, fewest=1, most=25))
    merge_saves(overtaken, fewest=1, most=most)  # type: ignore[arg-type]
    assert seen(store) == before
    listed = [entry.key for entry in store.list("annotations")]
    assert [key for key in listed if parse_merged_key(key)] == saved_keys(store)


class Listing:
    """A store that something happens to while it is listed: after the files, before the mergers."""

    def __init__(self, store: LocalStore, meanwhile: Callable[[], object]) -> None:
        self._store, self._meanwhile = store, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list(self, folder: str = "") -> Iterator[Entry]:
        yield from [entry for entry in self._store.list(folder) if not parse_merger_key(entry.key)]
        self._meanwhile()
        yield from [entry for entry in self._store.list(folder) if parse_merger_key(entry.key)]


def test_who_lists_a_merger_without_its_files_doubles_nothing(store: LocalStore) -> None:
    """Its parts are taken for new ones and merged once more, with a save that came in between."""

    def meanwhile() -> None:
        journal(store).save("ada", PARTS + 1, save(PARTS + 1, "ada"))
        merge_saves(store, fewest=1, most=25)

    apart = LocalStore(f"{store.root}-apart")
    fill(apart)
    journal(apart).save("ada", PARTS + 1, save(PARTS + 1, "ada"))
    merge_saves(Listing(store, meanwhile), fewest=1, most=40)  # type: ignore[arg-type]
    assert sum(parse_merger_key(entry.key) is not None for entry in store.list("annotations")) > 3
    assert seen(store) == seen(apart)
    merge_saves(store, fewest=1)
    assert seen(store) == seen(apart)


def test_a_merged_file_that_is_gone_takes_nothing_with_it(store: LocalStore) -> None:
    """Nor does it double anything when the next merger writes the same file again."""
    before = seen(store)
    merge_saves(store, fewest=1)
    (gone,) = [key for key in saved_keys(store) if parse_merged_key(key) == "masks"]
    store.delete(gone)
    assert seen(store) == before
    extra = Save.model_validate(body("ada", events=[event_row(99, "open", IMAGES[0])]))
    journal(store).save("ada", PARTS + 1, extra)
    before = seen(store)
    assert merge_saves(store, fewest=1) > 0
    assert store.exists(gone)
    assert seen(store) == before


def test_what_an_import_wrote_is_left_to_it(store: LocalStore) -> None:
    """It writes its parts anew where a document could not be read, and they are large."""
    session = "import-0123456789abcdef"
    journal(store).save(session, 1, save(1, session))
    merge_saves(store, fewest=1)
    assert [key for key in saved_keys(store) if not parse_merged_key(key)] == [
        events_key(session, 1),
        annotations_key(session, 1),
    ]


def test_a_merger_takes_no_more_than_fits(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = seen(store)
    monkeypatch.setattr(module, "MOST_BYTES", 1)
    assert merge_saves(store, fewest=60) == 4
    assert seen(store) == before


def test_a_revision_that_one_session_saved_twice_is_shown_once(store: LocalStore) -> None:
    """The later one, as in SQL; the app raises the revision, another client may not."""
    for part, later in ((PARTS + 1, 1), (PARTS + 2, 0)):
        moment = (MOMENT + timedelta(hours=1, seconds=later)).isoformat()
        mask = mask_row(IMAGES[0], blob(48, 64, part), mask_id="twice", created_at=moment)
        journal(store).save("ada", part, Save.model_validate(body("ada", masks=[mask])))
    before = seen(store)
    merge_saves(store, fewest=1)
    assert seen(store) == before


def test_a_damaged_merger_is_named_by_everybody(store: LocalStore) -> None:
    store.put(merger_key(1), b"{")
    for ask in (lambda: merge_saves(store, fewest=1), lambda: connect(store.root), lambda: journal(store)):
        with pytest.raises(ValueError, match=r"annotations/mergers/00000001\.json is not JSON"):
            ask()


def test_a_running_server_merges_now_and_then(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that fails is asked again the next time."""
    tries, done = iter([StoreError("cannot list it"), None]), threading.Event()

    def merge(_: Store) -> None:
        if error := next(tries, None):
            raise error
        done.set()

    monkeypatch.setattr(module, "SECONDS_BETWEEN", 0.01)
    monkeypatch.setattr(module, "merge_saves", merge)
    with merging(store):
        assert done.wait(30)
    assert capsys.readouterr().err == "sam-engine: saves are not merged: cannot list it\n"


def test_a_server_merges_before_it_serves(config: AnnotateConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflows.annotate.studio.merge_saves", partial(merge_saves, fewest=4))
    store, studio = LocalStore(config.dataset), open_studio(config)
    image = next(iter(studio.images))
    for part in (1, 2):
        studio.save("s", part, save(part, "s", image=image))
    shown, item = studio.masks(image), studio.item(image)
    again = open_studio(config)
    assert list(map(parse_merged_key, saved_keys(store))) == ["events", "masks"]
    assert (again.masks(image), again.item(image)) == (shown, item)
    assert item.masks == 2


@pytest.fixture
def on_s3(bucket: str) -> S3Store:
    return S3Store(f"s3://{bucket}/data", patience=QUICK_PATIENCE)


@pytest.mark.slow
def test_in_an_object_store(on_s3: S3Store) -> None:
    fill(on_s3)
    before = seen(on_s3)
    assert merge_saves(on_s3, fewest=1, most=25) > 0
    assert len(saved_keys(on_s3)) == 6
    assert seen(on_s3) == before
    assert sum(parse_merger_key(entry.key) is not None for entry in on_s3.list("annotations")) == 3


def test_outlines_are_kept_to_the_pixel(store: LocalStore) -> None:
    merge_saves(store, fewest=1)
    for row in journal(store).masks_of(IMAGES[0]):
        number = int(str(row["revision"]))
        assert row["area"] == np.count_nonzero(blob(48, 64, number))
