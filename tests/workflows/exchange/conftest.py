"""A data set as a run leaves it: pictures of several kinds, masks that overlap."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from schemas.tables import MASKS
from tests.schemas.rows import discs
from tests.workflows.conftest import Engine
from tests.workflows.report.data_sets import DataSet, done, run_record
from workflows.cli import main
from workflows.sql import connect

SIZE = (40, 60)
KINDS = ("sa1b", "coco", "lvis", "huggingface", "imagefolder", "webdataset", "labels")
BRUSHED = json.loads((Path(__file__).parent / "label_studio_brush.json").read_text())
MASKS_PER_IMAGE = 5


@dataclass(frozen=True, slots=True)
class Masked:
    """A data set of one run, and what is in it: pixels of each upright image, rows of MASKS."""

    root: Path
    photos: Path
    images: dict[str, NDArray[np.uint8]]
    masks: pa.Table


@contextmanager
def replaced(path: Path, data: bytes | None) -> Iterator[None]:
    """A file with other bytes, or gone, for a while."""
    before = path.read_bytes()
    path.unlink() if data is None else path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Masked:
    """Four pictures of 40x60 px (PNG, JPEG, a JPEG that EXIF turns, WebP), the last without masks."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("masked")
    photos = folder / "photos"
    photos.mkdir()
    pixels = np.kron(rng.integers(0, 256, (4, 5, 6, 3)), np.ones((1, 8, 10, 1))).astype(np.uint8)
    Image.fromarray(pixels[0]).save(photos / "a.png")
    Image.fromarray(pixels[1]).save(photos / "b.jpg", quality=95)
    turned = Image.fromarray(np.rot90(pixels[2]).copy())
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(photos / "c.jpg", quality=95, exif=exif)
    Image.fromarray(pixels[3]).save(photos / "d.webp", lossless=True)
    licences = folder / "licences.csv"
    licences.write_text("file_name,licence\na.png,CC0 1.0\nb.jpg,CC BY 4.0\nc.jpg,All rights reserved\n")
    root = folder / "dataset"
    assert main(["ingest", str(photos), str(root), "--metadata", str(licences)]) == 0
    return _with_masks(root, photos, rng)


def _with_masks(root: Path, photos: Path, rng: np.random.Generator) -> Masked:
    found = connect(str(root)).execute("SELECT image_id, uri, height, width FROM images").fetchall()
    assert {(height, width) for _, _, height, width in found} == {SIZE}
    images = {image_id: _upright(uri) for image_id, uri, _, _ in found}
    empty = next(image_id for image_id, uri, _, _ in found if uri.endswith(".webp"))
    results = [
        done(image_id, [] if image_id == empty else _some_discs(number), rng=rng)
        for number, image_id in enumerate(sorted(images))
    ]
    DataSet(root).add_run(results, run_record("first"))
    table = connect(str(root)).sql(f"SELECT {', '.join(MASKS.names)} FROM masks ORDER BY mask_id").to_arrow_table()
    return Masked(root, photos, images, table)


def _some_discs(seed: int) -> list[NDArray[np.bool_]]:
    return discs(MASKS_PER_IMAGE, height=SIZE[0], width=SIZE[1], seed=seed)


def _upright(uri: str) -> NDArray[np.uint8]:
    from PIL import ImageOps

    with Image.open(uri) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def coco_document(photos: list[Path]) -> dict[str, Any]:
    """Polygons, compressed and plain RLE, and a crowd."""
    bitmap = discs(1, height=48, width=64)[0]
    compressed = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    segmentations: list[Any] = [
        [[5.5, 4.0, 30.0, 6.0, 20.0, 40.0]],
        [[1, 1, 10, 1, 10, 10, 1, 10], [40, 20, 60, 20, 60, 40]],
        {"size": [48, 64], "counts": compressed["counts"].decode()},
        {"size": [48, 64], "counts": [100, 50, 48 * 64 - 150]},
        {"size": [48, 64], "counts": [0, 1000, 48 * 64 - 1000]},
    ]
    images = [{"id": 7 + n, "file_name": p.name, "height": 48, "width": 64} for n, p in enumerate(photos)]
    masks = [
        {"id": 10 + n, "image_id": 7 + n % 2, "category_id": 1 + n % 2, "segmentation": segmentation}
        | {"area": 1, "bbox": [0, 0, 1, 1], "iscrowd": int(n == 4)}
        for n, segmentation in enumerate(segmentations)
    ]
    return {"images": images, "annotations": masks, "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}


def export(engine: Engine, masked: Masked, out: Path | str, kind: str, *more: str) -> None:
    """The command, to a good end."""
    finished = engine("export", masked.root, out, "--format", kind, *more)
    assert finished.status == 0, finished.err


def bitmap_of(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The pixels [H, W] of a row of a mask."""
    pixels: NDArray[np.bool_] = coco_mask.decode({"size": [row["height"], row["width"]], "counts": row["rle"]}).astype(
        bool
    )
    return pixels


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def labelled(tmp_path: Path) -> Callable[..., Path]:
    """Writes a Label Studio export of one picture; changes are made to its first region."""

    def write(**changes: object) -> Path:
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (12, 9), (10, 200, 30)).save(tmp_path / "images" / "one.png")
        common = {"original_width": 12, "original_height": 9, "image_rotation": 0, "to_name": "image"}
        brush = {"id": "r1", "type": "brushlabels", "value": {"format": "rle", "rle": BRUSHED["rle"]}}
        brush["value"]["brushlabels"] = ["leaf"]
        corners = [[0, 0], [50, 0], [50, 100], [0, 100]]
        polygon = {"id": "r2", "type": "polygonlabels", "value": {"points": corners, "polygonlabels": ["stem"]}}
        result = [common | brush | changes, common | polygon, {"type": "choices", "value": {"choices": ["good"]}}]
        annotation = {"id": 5, "completed_by": {"id": 1, "email": "ada@example.org"}, "result": result}
        annotation["created_at"] = "2026-01-31T12:00:00.000000Z"
        cancelled = {"id": 6, "was_cancelled": True, "result": [common | polygon]}
        task = {"id": 3, "data": {"image": "/data/upload/1/0123abcd-one.png"}, "annotations": [annotation, cancelled]}
        (tmp_path / "tasks.json").write_text(json.dumps([task]))
        return tmp_path / "tasks.json"

    return write
