"""Sizes of images that a source names by hash: those of masks, those of files, and none where a file is another now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.catalog import connect, query
from schemas.ids import content_hash
from tests.workflows.conftest import QUICK, Engine, save_photos
from workflows.image_limits import MAX_PIXELS
from workflows.ingest import ingest
from workflows.runs import open_dataset
from workflows.sizes import note_sizes
from workflows.sources import list_images
from workflows.storage import LocalStore
from workflows.train.sources import open_sources


def images(dataset: Path) -> dict[str, tuple[int | None, int | None]]:
    """(height, width) by name."""
    found: list[dict[str, Any]] = query(connect(str(dataset)), "FROM images").to_pylist()
    return {Path(row["uri"]).name: (row["height"], row["width"]) for row in found}


def write_list(photos: Path) -> Path:
    files = sorted(photos.glob("*.png"))
    digests = [content_hash(path.read_bytes()) for path in files]
    pq.write_table(pa.table({"uri": [path.name for path in files], "content_sha256": digests}), photos / "list.parquet")
    return photos / "list.parquet"


def test_a_run_notes_the_sizes_of_images_that_nobody_read(
    engine_alone: Engine, photos: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    source, data = write_list(photos), tmp_path / "data"
    command = ("generate", source, data, "--model", tiny_checkpoint, *QUICK)
    assert engine_alone(*command).status == 0
    sizes = {path.name: Image.open(path).size[::-1] for path in photos.glob("*.png")}
    assert images(data) == sizes
    before = [entry.key for entry in LocalStore(data).list("images")]
    assert engine_alone(*command).status == 0
    assert [entry.key for entry in LocalStore(data).list("images")] == before
    assert engine_alone("report", data, "--out", tmp_path / "report.html").status == 0


def test_an_image_without_masks_is_read_if_it_is_still_the_same(
    engine_alone: Engine, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    photos, data = tmp_path / "photos", tmp_path / "data"
    photos.mkdir()
    save_photos(photos, 4)
    source = write_list(photos)
    command = (
        "generate",
        source,
        data,
        "--model",
        tiny_checkpoint,
        "--points-per-side",
        "2",
        "--min-predicted-iou",
        "1",
    )
    first, second, third, fourth = sorted(path.name for path in photos.glob("*.png"))
    assert engine_alone(*command).status == 0
    assert query(connect(str(data)), "SELECT count(*) AS n FROM masks").to_pylist() == [{"n": 0}]
    size = Image.open(photos / first).size[::-1]
    assert images(data) == dict.fromkeys((first, second, third, fourth), size)
    parts = [entry.key for entry in LocalStore(data).list("images")]
    (sizes,) = (key for key in parts if pq.read_table(data / key)["height"].null_count == 0)
    LocalStore(data).delete(sizes)  # as if the driver had died before
    (photos / second).unlink()
    Image.new("RGB", (9, 7)).save(photos / third)
    (photos / fourth).write_bytes(b"none")
    (run,) = query(connect(str(data)), "SELECT run_id FROM runs").to_pylist()
    assert note_sizes(LocalStore(data), run["run_id"], max_pixels=MAX_PIXELS) == 1
    assert images(data) == {first: size} | dict.fromkeys((second, third, fourth), (None, None))


def test_the_command_ingest_reads_what_a_source_names_by_hash(engine: Engine, photos: Path, tmp_path: Path) -> None:
    source, data = write_list(photos), tmp_path / "data"
    assert engine("ingest", source, data).status == 0
    assert images(data) == {path.name: Image.open(path).size[::-1] for path in photos.glob("*.png")}
    before = [entry.key for entry in LocalStore(data).list("images")]
    assert engine("ingest", source, data).status == 0
    assert [entry.key for entry in LocalStore(data).list("images")] == before


def test_ingest_tells_of_files_that_are_no_images(engine: Engine, photos: Path, tmp_path: Path) -> None:
    """Listed or stated by hash: they were counted as images, without a word."""
    (photos / "photo-000.png").write_text("text")
    (photos / "photo-001.png").write_bytes((photos / "photo-002.png").read_bytes()[:20])
    for source, data in ((photos, tmp_path / "listed"), (write_list(photos), tmp_path / "stated")):
        for _ in range(2):
            done = engine("ingest", source, data)
            assert done.status == 1
            assert "6 places, 0 unreadable\n2 images cannot be opened, and have no size" in done.out


def test_ingest_tells_of_files_that_are_not_what_their_hash_says(
    engine: Engine, photos: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    source, data = write_list(photos), tmp_path / "data"
    (photos / "photo-000.png").unlink()
    Image.new("RGB", (9, 7)).save(photos / "photo-001.png")
    done = engine("ingest", source, data)
    assert (done.status, "6 images at 6 places, 0 unreadable\n2 images cannot be read" in done.out) == (1, True)
    assert {name for name, size in images(data).items() if size == (None, None)} == {"photo-000.png", "photo-001.png"}
    assert query(connect(str(data)), "SELECT count(*) AS n FROM unread_images").to_pylist() == [{"n": 2}]


def test_images_that_cannot_be_decoded_count_as_read(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "none.png").write_bytes(b"none")
    assert engine("ingest", write_list(tmp_path / "photos"), tmp_path / "data").status == 1
    assert images(tmp_path / "data") == {"none.png": (None, None)}
    assert query(connect(str(tmp_path / "data")), "FROM unread_images").num_rows == 0


def test_many_are_read_on_the_cluster(
    cluster: str, engine: Engine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.sizes.IMAGES_PER_PART", 2)
    assert engine("ingest", write_list(photos), tmp_path / "data").status == 0
    assert len(list((tmp_path / "data" / "images").glob("*.parquet"))) == 1 + 3
    assert set(images(tmp_path / "data").values()) == {(48, 64)}


def test_commands_tell_which_images_they_leave_out(
    engine: Engine, photos: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    """As while a run is going on: noted by hash, not read yet."""
    source, store = write_list(photos), LocalStore(tmp_path / "data")
    open_dataset(store)
    with ingest(list_images(str(source)), store, max_pixels=MAX_PIXELS):
        pass
    for command in ("embed", "annotate"):
        done = engine(command, store.root, "--model", tiny_checkpoint)
        assert done.status == {"embed": 1, "annotate": 2}[command]
        assert done.err.startswith("left out: 6 images that were noted by hash and have no size yet; `sam-engine")
    with pytest.raises(ValueError, match="no images to train on"):
        open_sources((store.root,), need_masks=False)
    assert engine("ingest", source, store.root).status == 0
    assert "6 of 6 images embedded" in engine("embed", store.root, "--model", tiny_checkpoint).out
    (opened,) = open_sources((store.root,), need_masks=False)
    assert len(opened) == 6
