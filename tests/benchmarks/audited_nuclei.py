"""A data set whose masks have been audited by experts: microscopy images with the outlines that people drew.

    python -m tests.benchmarks.audited_nuclei FOLDER DATASET [--images 40]

FOLDER holds BBBC038 as `images/` and `labels/`. Each automatic mask is "corrected" to the nucleus that it overlaps
most, or deleted where none overlaps it by an IoU of one half; nuclei that no mask was for are added. That is stricter
than the protocol, where people correct what they see: the outlines here were drawn without knowing the masks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from tyro.conf import Positional

from tests.workflows.audit.corrections import correct
from workflows.cli import main as sam_engine
from workflows.sql import connect
from workflows.storage import open_store

LEAST_IOU = 0.5
_MASKS = """
SELECT masks.*, uri FROM masks JOIN images USING (image_id) ORDER BY image_id, mask_id
"""
Bitmap = NDArray[np.bool_]
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Options:
    """Segment microscopy images and let the experts' outlines correct the masks."""

    folder: Positional[Path]
    """BBBC038 as `images/` and `labels/` of the same names."""
    dataset: Positional[str]
    """The data set to write."""
    images: int = 40
    """How many images, evenly spread over the names."""
    model: str = "vit_n"
    """The model whose masks are audited."""


def main() -> None:
    options = tyro.cli(Options)
    files = sorted((options.folder / "images").glob("*.png"))
    chosen = files[:: max(1, len(files) // options.images)][: options.images]
    with TemporaryDirectory() as folder:
        manifest = Path(folder) / "chosen.parquet"
        pq.write_table(pa.table({"uri": [str(file) for file in chosen]}), manifest)
        if status := sam_engine(["generate", str(manifest), options.dataset, "--model", options.model]):
            sys.exit(status)
    table = connect(options.dataset).sql(_MASKS).to_arrow_table()
    corrected: dict[str, Bitmap | None] = {}
    added: list[tuple[str, Bitmap]] = []
    for uri, rows in _by_image(table):
        nuclei = _nuclei(options.folder / "labels" / Path(uri).name)
        changes, missed = match(rows, nuclei)
        corrected |= changes
        added += [(rows[0]["image_id"], nuclei[number]) for number in missed]
    correct(open_store(options.dataset), table, corrected, added=added, annotator="experts", session="experts-1")
    print(f"{len(table)} masks: {sum(one is None for one in corrected.values())} deleted, {len(added)} added")


def match(rows: Rows, nuclei: list[Bitmap]) -> tuple[dict[str, Bitmap | None], list[int]]:
    """What becomes of each mask of an image by mask_id, and the numbers of the nuclei that none was for."""
    if not nuclei:
        return {row["mask_id"]: None for row in rows}, []
    coded = [{"size": [row["height"], row["width"]], "counts": row["rle"]} for row in rows]
    truth = [coco_mask.encode(np.asfortranarray(nucleus.astype(np.uint8))) for nucleus in nuclei]
    iou = coco_mask.iou(coded, truth, [0] * len(truth))
    best, found = iou.argmax(axis=1), iou.max(axis=1) >= LEAST_IOU
    changes = {row["mask_id"]: nuclei[best[n]] if found[n] else None for n, row in enumerate(rows)}
    return changes, sorted(set(range(len(nuclei))) - set(best[found].tolist()))


def _by_image(table: pa.Table) -> Iterator[tuple[str, Rows]]:
    for uri, rows in groupby(table.to_pylist(), key=lambda row: row["uri"]):
        yield uri, list(rows)


def _nuclei(path: Path) -> list[Bitmap]:
    labels = np.asarray(Image.open(path))
    return [labels == number for number in np.unique(labels) if number]


if __name__ == "__main__":
    main()
