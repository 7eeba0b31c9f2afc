"""What no small export shows: how often is rare, how many large pictures are unpacked at once, and held."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from schemas.tables import MASKS
from workflows.exchange.pictures import Picture, is_redrawn
from workflows.exchange.selection import ExportImage, Page
from workflows.exchange.writers import at_once, huggingface
from workflows.exchange.writers.coco import LvisWriter


@pytest.mark.parametrize(("images", "frequency"), [(1, "r"), (10, "r"), (11, "c"), (100, "c"), (101, "f")])
def test_frequencies_are_those_of_lvis(images: int, frequency: str) -> None:
    writer = object.__new__(LvisWriter)
    writer._categories, writer._counts = {"cat": 1}, {"cat": [images, 200]}
    assert writer._category("cat")["frequency"] == frequency


@pytest.mark.parametrize(
    ("pixels", "count"),
    [([], 16), ([640 * 480] * 3, 16), ([10, 12_000_000], 11), ([50_000_000], 2), ([200_000_000], 1)],
)
def test_fewer_large_pictures_are_unpacked_at_once(pixels: list[int], count: int) -> None:
    assert at_once(pixels) == count


@pytest.mark.parametrize(
    ("kind", "orientation", "redrawn"),
    [("jpeg", 1, False), ("png", None, False), ("jpeg", 6, True), ("tiff", 1, True), (None, None, True)],
)
def test_upright_jpegs_and_pngs_keep_their_bytes(kind: str | None, orientation: int | None, redrawn: bool) -> None:
    assert is_redrawn(image_of(0, kind, orientation)) == redrawn


@dataclass
class FakeJob:
    """Pictures of 100 bytes, and one folder."""

    scratch: Path

    @property
    def target(self) -> FakeJob:
        return self

    def each_picture(self, images: list[ExportImage], work: Any) -> Any:
        return map(work, images)

    def picture(self, image: ExportImage) -> Picture:
        return Picture(bytes([image.number]) * 100, ".png")

    def put_file(self, key: str, path: Path) -> None:
        self.groups = [pq.ParquetFile(path).metadata.row_group(group).num_rows for group in range(4)]
        self.read = [row["image"]["bytes"][0] for row in pq.read_table(path).to_pylist()]

    pages = 1


def test_rows_of_large_pictures_lie_in_small_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pyarrow reads no group of more than 2 GB of pictures."""
    monkeypatch.setattr(huggingface, "_BYTES_TOGETHER", 300)
    job, images = FakeJob(tmp_path), [image_of(number, "png", 1) for number in range(10)]
    huggingface.HuggingFaceWriter(job).write(Page(0, (), 0, 0), images)  # type: ignore[arg-type]
    assert (job.groups, job.read) == ([3, 3, 3, 1], [*range(10)])


def image_of(number: int, kind: str | None, orientation: int | None) -> ExportImage:
    return ExportImage(number, 1, f"{number:032x}", ("a",), 4, 6, kind, orientation, None, MASKS.empty_table())
