"""How much room a mask takes in the Parquet tables, beside the same masks as SA-1B's JSON.

    python -m tests.benchmarks.bytes_per_mask --images FOLDER [--model vit_n] [--recipe draft] [--limit N] [--json FILE]

All columns count, and for JSON all of its fields; both are files as the engine writes them, one shard against one JSON
document per image.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tyro
from rich.progress import track

from sam_core.generator import MaskGenerator
from sam_core.recipes import recipe
from schemas import sa1b
from schemas.ids import image_id
from schemas.parquet import to_parquet_bytes
from schemas.records import RunRecord
from schemas.tables import Status
from tests.benchmarks.photographs import folder_label, image_files, read_image
from tests.benchmarks.record import environment_fields, write_json
from tests.benchmarks.refusals import refusals
from workflows.convert import ImageResult, mask_table
from workflows.models import GeneratorSpec, find_model
from workflows.runs import new_run


@dataclass(frozen=True, slots=True)
class Options:
    """Compares the size of masks in Parquet and in SA-1B's JSON."""

    images: Path
    """Folder of images; the first by name are taken."""
    model: str = "vit_n"
    """Name of a model or path of a checkpoint."""
    recipe: str = "draft"
    """Which masks are looked for and kept."""
    limit: int | None = None
    """At most this many images."""
    longest_side: int | None = None
    """Bring images to this longest side, px; by default they stay as they are."""
    json: Path | None = None
    """Where to write the record."""


def results(spec: GeneratorSpec, options: Options) -> Iterator[ImageResult]:
    """The generated masks of the images, as a worker hands them on."""
    generator = MaskGenerator(spec.model.load().sam, spec.recipe)
    for file in track(image_files(options.images, options.limit), "images", disable=not sys.stderr.isatty()):
        start = datetime.now(UTC)
        generation = generator.generate(read_image(file, longest_side=options.longest_side))
        yield ImageResult(image_id(file.read_bytes()), Status.OK, start, datetime.now(UTC), generation=generation)


def parquet_bytes(run: RunRecord, found: list[ImageResult]) -> int:
    """Size of the shard that holds the masks of these images."""
    return len(to_parquet_bytes(mask_table(run, found)))


def json_bytes(run: RunRecord, result: ImageResult) -> int:
    """Size of the SA-1B document of one image; named and numbered as the released ones."""
    assert result.generation
    height, width = result.generation.masks.size
    info = sa1b.ImageInfo(image_id=223750, width=width, height=height, file_name="sa_223750.jpg")
    rows: pa.Table = mask_table(run, [result])
    return len(sa1b.to_json(sa1b.document_of(info, rows, first_id=535000000)))


def run(options: Options) -> dict[str, Any]:
    """Measures, prints and stores. Raises ValueError when there are no masks to weigh."""
    spec = GeneratorSpec(find_model(options.model), recipe(options.recipe), "cpu")
    record = new_run(spec, name=None, recipe_name=options.recipe, config={})
    found = list(results(spec, options))
    masks = sum(result.n_masks for result in found)
    if not masks:
        raise ValueError(f"{options.images}: no masks were found; take another recipe or more images")
    parquet, json = parquet_bytes(record, found), sum(json_bytes(record, result) for result in found)
    rle = sum(len(counts) for result in found if result.generation for counts in result.generation.masks.rle)
    weighed = {
        "model": {"name": spec.model.name, "sha256": spec.model.sha256},
        "data": folder_label(options.images),
        "images": len(found),
        "masks": masks,
        "parquet_bytes_per_mask": parquet / masks,
        "json_bytes_per_mask": json / masks,
        "rle_bytes_per_mask": rle / masks,
        "share_of_json": parquet / json,
        "config": {"recipe": options.recipe, "limit": options.limit, "longest_side": options.longest_side},
        **environment_fields(),
    }
    for name in ("masks", "parquet_bytes_per_mask", "json_bytes_per_mask", "rle_bytes_per_mask", "share_of_json"):
        print(f"{name:24} {np.round(weighed[name], 3)}")
    if options.json:
        write_json(options.json, weighed)
    return weighed


def main() -> None:
    with refusals():
        run(tyro.cli(Options))


if __name__ == "__main__":
    main()
