"""Images that no file holds: the name of each says its bytes, and a generator that finds nothing in any of them.

What is left is the work of the engine alone: listing, planning, reading, checking hashes, decoding, writing, resuming.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sam_core.masks.batch import Generation, MaskRecords, Rejections, StepSeconds
from schemas.ids import content_hash
from schemas.records import RunRecord
from tests.one_by_one import OneByOne
from tests.workflows import fakes
from workflows.uris import UriReader

ROWS_AT_ONCE = 65_536
SIDE = 8


def image_bytes(number: int) -> bytes:
    """A grey PPM of SIDE x SIDE px whose first pixels hold its number."""
    header = f"P6 {SIDE} {SIDE} 255\n".encode()
    return header + number.to_bytes(8, "big").ljust(3 * SIDE * SIDE, b"\x80")


def write_manifest(path: Path, images: int, *, hashed: bool = True) -> None:
    """A Parquet manifest of made-up images with their content hashes and sizes, in row groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["uri", "content_sha256", "bytes"]
    schema = pa.schema([("uri", pa.string()), ("content_sha256", pa.string()), ("bytes", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, images, ROWS_AT_ONCE):
            numbers = range(start, min(images, start + ROWS_AT_ONCE))
            data = [image_bytes(number) for number in numbers]
            columns = [
                [f"s3://made-up-photographs/2026/{number // 1000:06d}/{number:010d}.ppm" for number in numbers],
                [content_hash(each) for each in data],
                [len(each) for each in data],
            ]
            writer.write_table(pa.table(columns, names=names).cast(schema))


def read_made_up(_: UriReader, uri: str) -> bytes:
    """Stands in for `UriReader.read`: the bytes that a name says."""
    return image_bytes(int(PurePosixPath(uri).stem))


@dataclass(frozen=True, slots=True)
class NoOpSource:
    """Loads a NoOpGenerator in a worker, and has the worker read made-up images."""

    def load(self, *, threads: int | None = None) -> OneByOne:
        UriReader.read = read_made_up  # type: ignore[method-assign, assignment]
        return OneByOne(NoOpGenerator().generate)


class NoOpGenerator:
    """Finds nothing, at no cost."""

    def __init__(self) -> None:
        boxes, points, scores = np.zeros((0, 4), np.int64), np.zeros((0, 2), np.float32), np.zeros(0, np.float32)
        crops = boxes.astype(np.int32)
        masks = MaskRecords((SIDE, SIDE), (), boxes, np.zeros(0, np.int64), scores, scores, points, crops)
        self._nothing = Generation(masks, Rejections.none(), StepSeconds())

    def generate(self, image: NDArray[np.uint8]) -> Generation:
        return self._nothing


def run_record() -> RunRecord:
    """A run of the no-op generator."""
    return replace(
        fakes.run_record("no-op"), model_name="no-op", model_id="no-op-0", recipe_name="none", kernels="none"
    )
