from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.catalog import connect, query
from schemas.ids import content_hash, image_id
from tests.workflows.conftest import no_more_files, save_photos
from workflows import ingest as module
from workflows.image_limits import MAX_PIXELS
from workflows.image_rows import image_row
from workflows.ingest import ingest
from workflows.runs import open_dataset
from workflows.sources import list_images
from workflows.storage import LocalStore, StoreError
from workflows.uris import ImageRef, UriReader


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "data")
    open_dataset(store)
    return store


def take_in(store: LocalStore, source: Path | list[ImageRef]) -> dict[str, str]:
    """Ingest; image id by URI."""
    references = iter(source) if isinstance(source, list) else list_images(str(source))
    with ingest(references, store, max_pixels=MAX_PIXELS) as listing:
        table = listing.images().read_all()
    return dict(zip(table["uri"].to_pylist(), table["image_id"].to_pylist(), strict=True))


def images(store: LocalStore) -> list[dict]:
    return query(connect(store.root), "SELECT * FROM images ORDER BY uri").to_pylist()


def test_images_are_named_by_their_bytes(store: LocalStore, photos: Path) -> None:
    found = take_in(store, photos)
    assert found == {str(path): image_id(path.read_bytes()) for path in photos.iterdir()}
    row = images(store)[0]
    assert (row["format"], row["height"], row["width"]) == ("png", 48, 64)
    assert row["bytes"] == (photos / "photo-000.png").stat().st_size


def test_known_files_are_not_read_again(store: LocalStore, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = take_in(store, photos)
    monkeypatch.setattr(module, "ingest_chunk", lambda *_: pytest.fail("read again"))
    assert take_in(store, photos) == first


def test_a_changed_file_is_another_image(store: LocalStore, photos: Path) -> None:
    first = take_in(store, photos)
    changed = photos / "photo-003.png"
    save_photos(photos.parent / "new", 1, first=77)[0].replace(changed)
    second = take_in(store, photos)
    assert {uri for uri in first if first[uri] != second[uri]} == {str(changed)}
    assert second[str(changed)] == image_id(changed.read_bytes())


def test_an_interrupted_ingest_goes_on(store: LocalStore, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "on_each", lambda function, chunks: [function(next(chunks).slice(0, 2))])
    take_in(store, photos)
    monkeypatch.undo()
    sizes: list[int] = []
    whole = module.ingest_chunk
    monkeypatch.setattr(module, "ingest_chunk", lambda *args: sizes.append(len(args[-1])) or whole(*args))
    assert len(take_in(store, photos)) == 6
    assert sizes == [4]


def test_two_places_are_one_image(store: LocalStore, photos: Path) -> None:
    shutil.copy(photos / "photo-000.png", photos / "zz.png")
    found = take_in(store, photos)
    assert found[str(photos / "photo-000.png")] == found[str(photos / "zz.png")]
    assert len(images(store)) == 6
    assert images(store)[0]["uris"] == [str(photos / "photo-000.png"), str(photos / "zz.png")]


def test_bad_files_are_images_without_a_size(store: LocalStore, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("text")
    Image.new("1", (30_000, 30_000)).save(folder / "huge.png")
    take_in(store, folder)
    assert [(row["format"], row["height"], row["bytes"] >= 0) for row in images(store)] == [(None, None, True)] * 3


def test_a_missing_file_is_noted_and_tried_again(store: LocalStore, photos: Path) -> None:
    late = photos / "late.png"
    references = [ImageRef(str(late))]
    first = take_in(store, references)
    assert images(store)[0]["bytes"] is None
    save_photos(photos.parent / "new", 1, first=5)[0].rename(late)
    second = take_in(store, references)
    assert second == {str(late): image_id(late.read_bytes())}
    assert first != second


def test_metadata_that_comes_later_is_added(store: LocalStore, photos: Path) -> None:
    uri = str(photos / "photo-000.png")
    take_in(store, [ImageRef(uri)])
    take_in(store, [ImageRef(uri, licence="CC0", metadata='{"country": "NO"}')])
    take_in(store, [ImageRef(uri)])
    (row,) = images(store)
    assert row["licence"] == "CC0"
    assert json.loads(row["metadata"]) == {"country": "NO"}


def test_the_newest_word_of_a_place_stands_also_where_it_was_said_before(store: LocalStore, photos: Path) -> None:
    """A licence that is taken back must not stay granted because the data set has seen the refusal before."""
    uris = [str(path) for path in sorted(photos.iterdir())]
    for licence in ("All rights reserved", "CC0", "All rights reserved"):
        take_in(store, [ImageRef(uris[0], licence=licence, metadata=f'{{"said": "{licence}"}}'), ImageRef(uris[1])])
        row, _ = images(store)
        assert (row["licence"], json.loads(row["metadata"])) == (licence, {"said": licence})


@pytest.mark.parametrize("stated", [False, True])
def test_what_is_said_later_stands_although_the_clock_before_was_ahead(
    store: LocalStore, photos: Path, monkeypatch: pytest.MonkeyPatch, stated: bool
) -> None:
    path = photos / "photo-000.png"
    place = ImageRef(str(path), content_sha256=content_hash(path.read_bytes()) if stated else "")
    with monkeypatch.context() as machine:
        machine.setattr("workflows.image_rows.now", lambda: datetime(2100, 1, 1))
        take_in(store, [replace(place, licence="CC0")])
    take_in(store, [replace(place, licence="All rights reserved")])
    (row,) = images(store)
    assert row["licence"] == "All rights reserved"
    monkeypatch.setattr(module, "_put_part", lambda *_: pytest.fail("it is noted already"))
    take_in(store, [replace(place, licence="All rights reserved")])


def test_a_place_that_is_named_twice_is_read_no_more_once_both_words_are_noted(
    store: LocalStore, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(photos / "photo-000.png")
    twice = [ImageRef(uri, metadata='{"id": 1}'), ImageRef(uri, metadata='{"id": 2}')]
    take_in(store, twice)
    take_in(store, twice)
    monkeypatch.setattr(module, "ingest_chunk", lambda *_: pytest.fail("read again"))
    take_in(store, twice)


def test_no_part_replaces_one_that_says_something_else(store: LocalStore, photos: Path) -> None:
    """Outcomes may name what an earlier part says: an image that could not be read has an id of its own."""
    late = photos / "late.png"
    take_in(store, [ImageRef(str(late), "1")])
    save_photos(photos.parent / "new", 1, first=5)[0].rename(late)
    take_in(store, [ImageRef(str(late), "1")])
    assert len(images(store)) == 2


def test_a_failing_store_is_not_the_image_s_fault(
    store: LocalStore, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> bytes:
        raise StoreError("cannot read s3://x: SlowDown")

    monkeypatch.setattr(UriReader, "read", busy)
    with pytest.raises(StoreError):
        take_in(store, photos)
    assert not list(store.list("images"))


def test_a_failing_machine_is_not_the_image_s_fault(photos: Path) -> None:
    listed = {"uri": str(photos / "photo-000.png")}
    with no_more_files(), pytest.raises(OSError) as failure:
        image_row(UriReader(), MAX_PIXELS, listed)
    assert failure.value.errno == errno.EMFILE


def test_many_chunks_go_over_the_cluster(
    cluster: str, store: LocalStore, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_PART", 2)
    assert len(take_in(store, photos)) == 6
    assert len(list((Path(store.root) / "images").glob("*.parquet"))) == 3
    assert len(images(store)) == 6


def test_stated_hashes_are_taken_without_reading(
    store: LocalStore, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(photos.iterdir())
    digests = [content_hash(path.read_bytes()) for path in files]
    rows = {
        "uri": [path.name for path in files],
        "content_sha256": digests,
        "bytes": [path.stat().st_size for path in files],
    }
    pq.write_table(pa.table(rows), photos / "list.parquet")
    monkeypatch.setattr(UriReader, "read", lambda *_: pytest.fail("read"))
    found = take_in(store, photos / "list.parquet")
    assert found == {str(path): image_id(path.read_bytes()) for path in files}
    assert [row["bytes"] for row in images(store)] == [path.stat().st_size for path in files]
    assert take_in(store, photos / "list.parquet") == found
    assert len(list(store.list("images"))) == 1


def test_a_place_that_is_listed_twice_is_noted_once(store: LocalStore, photos: Path) -> None:
    reference = ImageRef(str(photos / "photo-000.png"))
    assert len(take_in(store, [reference, reference])) == 1
    assert len(images(store)) == 1
