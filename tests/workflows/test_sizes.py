"""Sizes of images that a source names by hash: those of masks, those of files, and none where a file is another now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from schemas.catalog import connect, query
from schemas.ids import content_hash
from tests.workflows.conftest import QUICK, Engine, save_photos
from workflows.images import MAX_PIXELS
from workflows.sizes import note_sizes
from workflows.storage import LocalStore


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
