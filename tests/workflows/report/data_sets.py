"""Data sets made by hand with the writers of the project, for tests of what reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from sam_core.masks import rle
from sam_core.masks.batch import Generation, MaskRecords, Rejections, StepSeconds
from sam_core.recipes import Recipe
from schemas import ids, layout
from schemas.parquet import to_parquet_bytes
from schemas.records import DatasetRecord, RunRecord, to_json
from schemas.tables import IMAGES, Status
from schemas.validate import check_images, check_shard
from tests.schemas import rows as sound
from workflows.convert import ImageResult, mask_table, outcome_table
from workflows.storage import LocalStore

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class DataSet:
    """A data set being written; every method adds to it."""

    root: Path
    store: LocalStore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", LocalStore(self.root))
        record = DatasetRecord(name=self.root.name, created_at=NOON)
        self.store.put(layout.DATASET_KEY, to_json(record).encode())

    def add_images(
        self, paths: Sequence[Path], part: str = "0", facts: Sequence[Mapping[str, object]] = ()
    ) -> list[str]:
        """Rows of `images` for files, which need not be images, with further columns if given; their image_ids."""
        more = facts or [{}] * len(paths)
        rows = [_image_row(path) | dict(known) for path, known in zip(paths, more, strict=True)]
        table = pa.Table.from_pylist(rows, schema=IMAGES)
        check_images(table)
        self.store.put(layout.images_key(part), to_parquet_bytes(table))
        return [row["image_id"] for row in rows]

    def add_run(self, results: Sequence[ImageResult], run: RunRecord, shard: int = 0) -> None:
        """A finished shard of a run."""
        masks, outcomes = mask_table(run, results), outcome_table(run.run_id, shard, results)
        check_shard(masks, outcomes)
        self.store.put(layout.run_key(run.run_id), to_json(run).encode())
        self.store.put(layout.masks_key(run.run_id, shard), to_parquet_bytes(masks))
        self.store.put(layout.outcomes_key(run.run_id, shard), to_parquet_bytes(outcomes))


def run_record(name: str | None = None, *, minute: int = 0, recipe: Recipe | None = None) -> RunRecord:
    recipe = recipe or Recipe()
    return replace(
        sound.run_record(ids.run_id("ab" * 32, recipe.to_json(), name=name)),
        name=name,
        created_at=NOON.replace(minute=minute),
        model_id="vit_test-abababababab",
        model_sha256="ab" * 32,
        recipe={"min_predicted_iou": recipe.min_predicted_iou, "min_stability_score": recipe.min_stability_score},
    )


def done(image_id: str, masks: Sequence[NDArray[np.bool_]], *, rng: np.random.Generator) -> ImageResult:
    """An image with these masks, made-up scores, and made-up rejections."""
    generation = Generation(_records(masks, rng), _rejections(rng), StepSeconds(*rng.uniform(0.01, 2, 6).tolist()))
    return ImageResult(image_id, Status.OK, NOON, NOON, 0.01, 0.02, generation)


def failed(image_id: str, error_class: str, message: str, status: Status = Status.ERROR) -> ImageResult:
    return ImageResult(image_id, status, NOON, NOON, error_class=error_class, error_message=message)


def boxes(size: tuple[int, int], count: int, *, rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Masks that are random boxes."""
    masks = []
    for _ in range(count):
        mask = np.zeros(size, bool)
        y, x = rng.integers(0, size[0] - 2), rng.integers(0, size[1] - 2)
        mask[y : y + rng.integers(1, size[0]), x : x + rng.integers(1, size[1])] = True
        masks.append(mask)
    return masks


def photos(folder: Path, count: int, *, rng: np.random.Generator) -> list[Path]:
    """Small PNG files of noise, every one another."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"photo-{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (24, 36, 3), dtype=np.uint8)).save(path)
    return paths


def _records(masks: Sequence[NDArray[np.bool_]], rng: np.random.Generator) -> MaskRecords:
    height, width = masks[0].shape if masks else (24, 36)
    count = len(masks)
    return MaskRecords(
        size=(height, width),
        rle=tuple(map(rle.encode, masks)),
        boxes=np.array([_box(mask) for mask in masks], np.int64).reshape(count, 4),
        areas=np.array([mask.sum() for mask in masks], np.int64),
        predicted_iou=rng.uniform(0.88, 1.02, count).astype(np.float32),
        stability_score=np.minimum(rng.uniform(0.95, 1.01, count), 1).astype(np.float32),
        points=np.zeros((count, 2), np.float32),
        crop_boxes=np.tile(np.array([0, 0, width, height], np.int32), (count, 1)),
    )


def _rejections(rng: np.random.Generator) -> Rejections:
    count = int(rng.integers(0, 50))
    return Rejections(
        reason=rng.integers(0, 7, count).astype(np.int8),
        points=np.zeros((count, 2), np.float32),
        output=np.zeros(count, np.int8),
        predicted_iou=np.zeros(count, np.float32),
        stability_score=np.zeros(count, np.float32),
        crop_boxes=np.zeros((count, 4), np.int32),
    )


def _box(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]


def _image_row(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    sha256 = ids.content_hash(data)
    try:
        with Image.open(path) as image:
            known = {"format": str(image.format).lower(), "height": image.height, "width": image.width}
    except OSError:
        known = {}
    base = {"image_id": ids.image_id(data), "uri": str(path), "content_sha256": sha256, "bytes": len(data)}
    return base | known | {"ingested_at": NOON.replace(tzinfo=None)}
