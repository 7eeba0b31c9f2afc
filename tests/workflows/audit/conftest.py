"""A small data set with everything an audit looks at: two runs, licences, countries, positions, twins, corrections."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sam_core.masks import rle
from schemas import layout
from schemas.records import ModelRecord, RoundRecord, to_json
from schemas.tables import Stage
from tests.workflows.audit.corrections import Bitmap, correct
from tests.workflows.report.data_sets import NOON, DataSet, done, failed, run_record
from workflows.sql import connect

SIZE = (60, 80)
IMAGES = 12
AUDITED = 8
LICENCES = ("CC BY 4.0", "CC BY 4.0", "CC BY-NC 4.0", None)
COUNTRIES = ("Kenya", "France", "usa", "Atlantis", None, None)
NAIROBI = (-1.2864, 36.8172)


@dataclass(frozen=True)
class Audited:
    """The data set, its two runs, and what the corrections are known to be."""

    root: Path
    images: list[str]
    first: str
    second: str
    masks: int
    deleted: int
    added: int
    ious: NDArray[np.float64]


@pytest.fixture(scope="session")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    folder = tmp_path_factory.mktemp("audited")
    rng = np.random.default_rng(11)
    data_set = DataSet(folder / "data")
    images = data_set.add_images(pictures(folder / "photos"), facts=[_facts(number) for number in range(IMAGES)])
    first, second = run_record("first"), run_record("second", minute=5)
    for run, most in ((first, 14), (second, 24)):
        results = [done(image, blobs(int(rng.integers(1, most)), rng), rng=rng) for image in images[:-1]]
        data_set.add_run([*results, failed(images[-1], "Damaged", "cut off")], run)
    return _corrected(data_set, images, first.run_id, second.run_id)


def pictures(folder: Path) -> list[Path]:
    """Small pictures of rectangles; the second is the first, recompressed; the last lies in Nairobi by its EXIF."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    paths = []
    for number in range(IMAGES):
        pixels = np.full((*SIZE, 3), rng.integers(60, 200, 3), np.uint8)
        for _ in range(6):
            y, x = rng.integers(0, SIZE[0] - 12), rng.integers(0, SIZE[1] - 12)
            pixels[y : y + rng.integers(10, 40), x : x + rng.integers(10, 40)] = rng.integers(0, 256, 3)
        paths.append(folder / f"photo-{number:02d}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=95)
    Image.open(paths[0]).save(paths[1], quality=80)
    place = Image.Exif()
    place[0x8825] = {1: "S", 2: (1.0, 17.0, 11.04), 3: "E", 4: (36.0, 49.0, 1.92)}
    Image.open(paths[-2]).save(paths[-2], exif=place, quality=90)
    return paths


def blobs(count: int, rng: np.random.Generator) -> list[Bitmap]:
    """Rough discs of many sizes; every fifth repeats the one before but for a pixel."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    found: list[Bitmap] = []
    for number in range(count):
        if number % 5 == 4:
            found.append(found[-1].copy())
            found[-1][tuple(np.argwhere(found[-1])[0])] = False
            continue
        radius = rng.uniform(3, 25)
        bitmap = np.hypot(y - rng.uniform(5, SIZE[0] - 5), x - rng.uniform(5, SIZE[1] - 5)) < radius
        found.append(bitmap & ((x + y) % 3 > 0) if number % 3 == 1 else bitmap)
    return found


def _facts(number: int) -> dict[str, object]:
    country = COUNTRIES[number % len(COUNTRIES)]
    known = {"licence": LICENCES[number % len(LICENCES)]}
    return known | ({"metadata": f'{{"country": "{country}"}}'} if country else {})


def _corrected(data_set: DataSet, images: list[str], first: str, second: str) -> Audited:
    """Every third mask loses some columns, every seventh is deleted, and one is added."""
    condition = f"run_id = '{first}' AND image_id IN {tuple(images[:AUDITED])}"
    masks = connect(str(data_set.root)).sql(f"FROM masks WHERE {condition} ORDER BY mask_id").to_arrow_table()
    changes: dict[str, Bitmap | None] = {}
    ious = np.ones(len(masks))
    for number, row in enumerate(masks.to_pylist()):
        if number % 7 == 6:
            changes[row["mask_id"]], ious[number] = None, 0.0
        elif number % 3 == 2:
            bitmap = rle.decode(row["rle"], SIZE)
            smaller = bitmap.copy()
            smaller[:, row["bbox_x"] : row["bbox_x"] + 1 + row["bbox_w"] // 6] = False
            changes[row["mask_id"]], ious[number] = smaller, smaller.sum() / bitmap.sum()
    extra = np.zeros(SIZE, bool)
    extra[2:9, 3:11] = True
    correct(data_set.store, masks, changes, added=[(images[0], extra)])
    correct(
        data_set.store,
        masks.slice(0, 5),
        {},
        session="drawing-1",
        annotator="bo",
        stage=Stage.SEMI_AUTOMATIC,
    )
    _add_round(data_set)
    deleted = int((ious == 0).sum())
    return Audited(data_set.root, images, first, second, len(masks), deleted, 1, ious)


def _add_round(data_set: DataSet) -> None:
    model = ModelRecord(
        model_id="vit_test-cdcdcdcdcdcd",
        name="vit_test",
        sha256="cd" * 32,
        created_at=NOON,
        parent="vit_test-abababababab",
        round=1,
        training={"steps": 10},
        metrics={"train_last_iou": 0.62},
    )
    record = RoundRecord(
        number=1,
        stage=Stage.SEMI_AUTOMATIC,
        state="finished",
        started_at=NOON,
        finished_at=NOON,
        model_before="vit_test-abababababab",
        model_after=model.model_id,
        promoted=True,
        reason="better",
        metrics={"base_miou": 0.6, "held_out_miou": 0.62},
        details={},
    )
    data_set.store.put(layout.model_card_key(model.model_id), to_json(model).encode())
    data_set.store.put(layout.round_key(1), to_json(record).encode())
