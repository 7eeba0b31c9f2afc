"""`sam-engine crops`: every mask once by each CLIP, only what is missing, read back for training; end to end on Ray."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from sam_core.clip import CLIP_SHA256
from sam_core.clip_transformers import load_clip
from sam_core.masks.rle import encode
from sam_core.model.checkpoint import load_model
from sam_core.training.presets import text_nano
from schemas.layout import annotations_key, snapshot_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import ANNOTATIONS, SNAPSHOT
from tests.small_clip import write_small_clip
from tests.workflows.conftest import Engine
from tests.workflows.report.data_sets import DataSet, done, photos, run_record
from tests.workflows.train.conftest import picture, small_config
from workflows import ray_session
from workflows.crops import job
from workflows.crops.commands import CropsConfig
from workflows.crops.job import draws_of, embed_crops
from workflows.ray_session import Pool
from workflows.sql import connect
from workflows.storage import LocalStore
from workflows.train.samples import Sampler
from workflows.train.sources import open_sources
from workflows.train.table_rows import WantedCrops

SIZE = (24, 36)


def box(y: int, x: int, h: int, w: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[y : y + h, x : x + w] = True
    return mask


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_clip(tmp_path_factory.mktemp("clips") / "small")


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Two images; masks of 50, 60 and 4 px on the first and of 50 px on the second."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    first, second = data.add_images(photos(tmp_path / "photos", 2, rng=rng))
    run = run_record("one")
    data.add_run([done(first, [box(2, 0, 5, 10), box(8, 4, 6, 10), box(16, 6, 2, 2)], rng=rng)], run, shard=0)
    data.add_run([done(second, [box(3, 3, 5, 10)], rng=rng)], run, shard=1)
    return data


def map_here(worker: type, job: object, rows: list[dict[str, Any]], pool: Pool) -> Iterator[dict[str, Any]]:
    """Stands for `map_actors`: the worker is this process."""
    return map(worker(job), rows)


@pytest.fixture
def engine_here(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """`engine` whose workers are this process."""

    monkeypatch.setattr(ray_session, "start_ray", lambda: None)
    monkeypatch.setattr(ray_session, "has_gpus", lambda: False)
    monkeypatch.setattr(ray_session, "choose_pool", lambda **_: Pool(workers=1, threads=1, gpus=0))
    monkeypatch.setattr(ray_session, "map_actors", map_here)
    return engine


def rows(data: DataSet) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        connect(str(data.root)).sql("FROM crops ORDER BY mask_id, clip_sha256, draw").to_arrow_table().to_pylist()
    )
    return found


def test_every_mask_of_that_size_once(engine_here: Engine, data: DataSet, clip: Path) -> None:
    ran = engine_here("crops", data.root, "--clip", clip, "--min-area", "50", "--draws", "3")
    assert (ran.status, "crops of 3 masks embedded by small" in ran.out) == (0, True), ran.err
    found = rows(data)
    assert [row["draw"] for row in found] == [0, 1, 2] * 3
    assert {row["area"] for row in found} == {50, 60}
    assert all(row["revision"] == 0 and 1 <= row["grow"] <= 2 for row in found)
    assert all(a["background"] != b["background"] for a, b in itertools.pairwise(found) if b["draw"])
    vector = np.frombuffer(found[0]["vector"], "<f2").astype(np.float32)
    assert vector.shape == (8,)
    assert abs(np.linalg.norm(vector) - 1) < 1e-2
    other = engine_here("crops", data.root, "--clip", clip, "--min-area", "50", "--draws", "8")
    assert (other.status, "has 3 crops of each mask: say --draws 3" in other.err) == (2, True)


def test_vectors_are_those_of_the_drawn_crops(engine_here: Engine, data: DataSet, clip: Path, tmp_path: Path) -> None:
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "60").status == 0
    found = rows(data)
    image = np.asarray(Image.open(tmp_path / "photos" / "photo-0.png"))
    draws = draws_of(found[0]["mask_id"], 0, 4)
    assert [(row["grow"], row["background"]) for row in found] == [
        (pytest.approx(draw.grow), draw.background) for draw in draws
    ]
    wanted = embed_crops(load_clip(clip), image, box(8, 4, 6, 10), draws)
    np.testing.assert_allclose([np.frombuffer(row["vector"], "<f2") for row in found], wanted, atol=2e-3)


def test_one_pool_works_on_all_masks_however_many_the_driver_holds(
    engine_here: Engine, data: DataSet, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pool loads CLIP again, and waits for its last worker."""
    pools: list[type] = []
    monkeypatch.setattr(job, "MASKS_AT_ONCE", 1)
    monkeypatch.setattr(ray_session, "map_actors", lambda *args: pools.append(args[0]) or map_here(*args))
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "1").status == 0
    assert (len(pools), len(rows(data))) == (1, 16)
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "1").status == 0
    assert len(pools) == 1


def test_the_driver_sorts_in_a_part_of_the_memory(
    engine_here: Engine, data: DataSet, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers beside it hold CLIP and pictures."""
    limits: list[Any] = []

    def spied(place: str, **said: Any) -> Any:
        connection = connect(place, **said)
        limits.extend(connection.execute("SELECT current_setting('memory_limit')").fetchall())
        return connection

    monkeypatch.setattr(job, "BESIDE_OTHERS", "100MB")
    monkeypatch.setattr(job, "connect", spied)
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "1").status == 0
    assert limits[0] == ("95.3 MiB",)


def test_again_only_what_is_missing(engine_here: Engine, data: DataSet, clip: Path, tmp_path: Path) -> None:
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "60").status == 0
    before = {path: path.stat().st_mtime_ns for path in (data.root / "crops").rglob("*.parquet")}
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "60").status == 0
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "50").status == 0
    after = {path: path.stat().st_mtime_ns for path in (data.root / "crops").rglob("*.parquet")}
    assert before.items() <= after.items()
    assert len(after) == 2
    other = write_small_clip(tmp_path / "other", seed=1)
    assert engine_here("crops", data.root, "--clip", other, "--min-area", "60").status == 0
    hashes = [row["clip_sha256"] for row in rows(data)]
    assert sorted(map(hashes.count, set(hashes))) == [4, 12]


def test_an_image_that_is_gone_is_said(engine_here: Engine, data: DataSet, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "photo-1.png").unlink()
    ran = engine_here("crops", data.root, "--clip", clip, "--min-area", "50")
    assert (ran.status, "left out: " in ran.err, "photo-1.png" in ran.err) == (1, True, True)
    assert len(rows(data)) == 8


def test_a_limit_on_pixels_is_one_on_bytes(engine_here: Engine, data: DataSet, clip: Path, tmp_path: Path) -> None:
    os.truncate(tmp_path / "photos" / "photo-1.png", 65 << 20)
    ran = engine_here("crops", data.root, "--clip", clip, "--min-area", "50", "--max-pixels", "100000")
    assert (ran.status, "photo-1.png: 68,157,440 bytes are more than the limit of 67,908,864 bytes" in ran.err) == (
        1,
        True,
    )


def test_what_training_reads(engine_here: Engine, data: DataSet, clip: Path) -> None:
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "50", "--draws", "2").status == 0
    sha256 = load_clip(clip).sha256
    sources = open_sources((str(data.root),), need_masks=True, crops=WantedCrops(sha256, 50))
    assert sorted(len(masks) for masks in sources[0].index["rles"].to_pylist()) == [1, 2]
    config = small_config(text=True, text_width=8, clip_sha256=sha256, jitter=(1.0, 1.0))
    sample = Sampler(sources, config).sample(0)
    assert sample.text is not None
    assert sample.text.shape == (len(sample.masks), 8)
    vectors = {row["area"]: [] for row in rows(data)}
    for row in rows(data):
        vectors[row["area"]].append(np.frombuffer(row["vector"], "<f2").astype(np.float32))
    for text in sample.text.numpy():
        assert any(np.array_equal(text, known) for each in vectors.values() for known in each)
    larger = open_sources((str(data.root),), need_masks=True, crops=WantedCrops(sha256, 60))
    assert [len(masks) for masks in larger[0].index["rles"].to_pylist()] == [1]
    assert larger[0].sha256 != sources[0].sha256


def test_masks_without_crops_are_said(
    engine_here: Engine, data: DataSet, clip: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Training went on with the few that a killed command, or one for larger masks, had embedded."""
    wanted = WantedCrops(load_clip(clip).sha256, 50)
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "60").status == 0

    def told(name: str) -> str:
        open_sources((f"{data.root}{name}",), need_masks=True, crops=wanted)
        return capfd.readouterr().err

    way_out = f"`sam-engine crops {data.root} --clip FOLDER --min-area 50` embeds them"
    for name in ("", "@masks", "@one"):
        assert told(name) == f"left out: 2 masks of 50 px or more have no crops by this CLIP; {way_out}\n"
    assert engine_here("crops", data.root, "--clip", clip, "--min-area", "50").status == 0
    assert told("") == ""


def test_a_mask_that_was_edited_since_has_no_crops(
    engine: Engine, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], engine_here: Engine
) -> None:
    data = tmp_path / "data"
    assert engine("import", write_coco(tmp_path / "coco"), data).status == 0
    assert engine_here("crops", data, "--clip", clip, "--min-area", "64").status == 0
    (row, *_) = connect(str(data)).sql("FROM annotation_revisions WHERE area > 100").to_arrow_table().to_pylist()
    edited = pa.Table.from_pylist([row | {"revision": 2, "session": "by-hand"}], ANNOTATIONS)
    LocalStore(data).put(annotations_key("by-hand", 1), to_parquet_bytes(edited))
    wanted = WantedCrops(load_clip(clip).sha256, 64)
    frozen = pa.Table.from_pylist([row], SNAPSHOT)
    LocalStore(data).put(snapshot_key(1), to_parquet_bytes(frozen))
    capfd.readouterr()
    open_sources((f"{data}@annotations",), need_masks=True, crops=wanted)
    assert "left out: 1 masks of 64 px or more" in capfd.readouterr().err
    open_sources((f"{data}@round-1",), need_masks=True, crops=wanted)  # which holds it as it was
    assert capfd.readouterr().err == ""


def test_refusals(engine_here: Engine, data: DataSet, clip: Path, tmp_path: Path) -> None:
    coco = write_coco(tmp_path / "coco")
    for arguments, complaint in (
        (("crops", data.root, "--clip", tmp_path / "none"), "there is no folder"),
        (
            ("crops", data.root, "--clip", clip, "--min-area", "900"),
            "no readable image has a mask of 900 px or more; --min-area",
        ),
        (("crops", tmp_path, "--clip", clip), "not a data set"),
        (("train", data.root, "--preset", "text_nano"), "preset text_nano needs --clip FOLDER"),
        (("train", data.root, "--clip", clip), "--clip goes with text prompts, which preset fine_tune"),
        (("train", data.root, "--preset", "text_nano", "--clip", clip), "has crops that this CLIP embedded"),
        (
            ("train", coco, "--preset", "text_nano", "--clip", clip, "--out", tmp_path / "o"),
            "text prompts are trained on data sets, whose crops `sam-engine crops` embeds",
        ),
    ):
        ran = engine_here(*arguments)
        assert ran.status == 2, arguments
        assert complaint in ran.err
        assert len(ran.err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["draws", "min_area", "workers", "threads"])
def test_counts_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is 0; it must be positive"):
        CropsConfig(dataset="data", clip="clip", **{name: 0})


def write_coco(folder: Path) -> Path:
    """Three pictures with rectangles as a COCO JSON."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(3):
        pixels, labels = picture(number)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
        for label in np.unique(labels)[1:].tolist():
            mask = labels == label
            segmentation = {"size": [48, 64], "counts": encode(mask).decode()}
            about = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            annotations.append(about | {"segmentation": segmentation, "area": int(mask.sum()), "bbox": [0, 0, 1, 1]})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "instances.json").write_text(json.dumps(document))
    return folder / "instances.json"


@pytest.mark.slow
@pytest.mark.usefixtures("cluster", "train_without_ray_train")
@pytest.mark.timeout(300)
def test_from_coco_to_a_model_that_takes_texts(
    tmp_path: Path, clip: Path, tiny_checkpoint: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    assert engine("import", write_coco(tmp_path / "coco"), data).status == 0
    embedded = engine("crops", data, "--clip", clip, "--min-area", "64", "--draws", "2")
    assert embedded.status == 0, embedded.err
    command = (
        *("train", f"{data}@annotations", "--preset", "text_nano", "--clip", clip, "--start", tiny_checkpoint),
        *("--model", "vit_test", "--image-size", "64", "--images", "2", "--iterations", "4", "--threads", "1"),
    )
    ran = engine(*command)
    assert ran.status == 0, ran.err
    (weights,) = data.glob("models/*/model.safetensors")
    model = load_model(weights)
    assert model.sam.config.text_width == 8
    assert model.metadata[CLIP_SHA256] == load_clip(clip).sha256
    assert load_clip(clip).sha256 in weights.with_name("card.md").read_text()
    assert text_nano()[0].text_noise > 0

    other = write_small_clip(tmp_path / "other", seed=1)
    monkeypatch.setattr(ray_session, "map_actors", map_here)
    assert engine("crops", data, "--clip", other, "--min-area", "64", "--draws", "1").status == 0
    again = (*command[:5], other, "--start", weights, *command[8:])
    refused = engine(*again)
    assert (refused.status, "belongs to the CLIP small" in refused.err) == (2, True), refused.err
