"""`sam-engine embed` on real Ray: every image once, only what is missing, and what cannot be read is said."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sam_core.lanes import _Here
from sam_core.model.checkpoint import CheckpointError
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.sam import Sam
from schemas.ids import image_id
from tests.workflows.conftest import Engine, save_photos
from workflows.embed import EmbedJob, EmbedWorker, _note_images, _rows
from workflows.embeddings import embed_image
from workflows.models import Model, find_model
from workflows.runs import open_dataset
from workflows.scratch import open_scratch
from workflows.sql import connect
from workflows.storage import LocalStore


def files(data: Path) -> dict[Path, int]:
    """Every embedding and when it was written."""
    return {path: path.stat().st_mtime_ns for path in (data / "embeddings").rglob("*.safetensors")}


@pytest.mark.slow
def test_every_image_once_and_only_what_is_missing(
    cluster: str, engine: Engine, photos: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    data = tmp_path / "data"
    engine("ingest", photos, data)
    done = engine("embed", data, "--model", tiny_checkpoint)
    assert (done.status, "6 of 6 images embedded by vit_test-" in done.out) == (0, True), done.err
    before = files(data)
    assert len(before) == 6
    save_photos(photos, 1, first=6)
    engine("ingest", photos, data)
    next(iter(before)).unlink()
    (photos / "photo-006.png").write_bytes(b"other")
    (data / "embeddings" / "model=old-1" / "ab").mkdir(parents=True)
    (data / "embeddings" / "model=old-1" / "ab" / f"{'ab' * 16}.safetensors").write_bytes(b"x")
    again = engine("embed", data, "--model", tiny_checkpoint, "--prune")
    assert (again.status, "photo-006.png: the file has other bytes" in again.err) == (1, True)
    assert "6 of 7 images embedded by vit_test-" in again.out
    assert "1 stale embeddings of other models deleted" in again.out
    after = files(data)
    assert after.keys() == before.keys()
    assert sum(after[path] != before[path] for path in before) == 1


def test_images_come_in_chunks_from_a_table(tmp_path: Path, engine: Engine, tiny_checkpoint: Path) -> None:
    """Forty without and one with an embedding; those without come in order."""
    save_photos(tmp_path / "photos", 41)
    engine("ingest", tmp_path / "photos", tmp_path / "data")
    with open_scratch() as tables, closing(connect(str(tmp_path / "data"))) as catalog:
        ids = sorted(image for (image,) in catalog.execute("SELECT image_id FROM images").fetchall())
        _note_images(tables, catalog, iter(ids[:1]))
        rows = list(_rows(tables))
    assert [len(row["image_ids"]) for row in rows] == [16, 16, 8]
    assert [image for row in rows for image in row["image_ids"]] == ids[1:]
    assert all(len(uris) == 1 for row in rows for uris in row["uris"])


def test_every_image_is_encoded_by_a_thread_of_its_own(
    tmp_path: Path, engine: Engine, photos: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no number depends on how many threads there are: a product that is shared is rounded differently."""
    lanes: list[tuple[str, int]] = []

    def noted(*about: Any, **more: Any) -> bytes:
        lanes.append((threading.current_thread().name[:4], torch.get_num_threads()))
        return embed_image(*about, **more)

    monkeypatch.setattr("workflows.embed.embed_image", noted)
    engine("ingest", photos, tmp_path / "data")
    worker = EmbedWorker(EmbedJob(str(tmp_path / "data"), find_model(str(tiny_checkpoint)), "cpu", 3, 10**6))
    paths = sorted(photos.iterdir())
    row = {"image_ids": [image_id(path.read_bytes()) for path in paths], "uris": [[str(path)] for path in paths]}
    assert worker(row) == {"images": 6, "failures": []}
    assert lanes == [("lane", 1)] * 6
    assert len(files(tmp_path / "data")) == 6


def test_many_images_are_encoded_by_the_encoder_for_them(
    tmp_path: Path, engine: Engine, photos: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.Tensor] = []

    def of(sam: Sam) -> Callable[[torch.Tensor], ImageFeatures]:
        return lambda picture: asked.append(picture) or sam.image_encoder(picture)

    monkeypatch.setattr("sam_core.model.cpu_encoder.cpu_encoder", of)
    engine("ingest", photos, tmp_path / "data")
    worker = EmbedWorker(EmbedJob(str(tmp_path / "data"), find_model(str(tiny_checkpoint)), "cpu", 2, 10**6))
    path = min(photos.iterdir())
    assert worker({"image_ids": [image_id(path.read_bytes())], "uris": [[str(path)]]}) == {"images": 1, "failures": []}
    assert len(asked) == 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_next_images_are_encoded_while_a_store_takes_its_time(
    tmp_path: Path, engine: Engine, photos: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """The first file is not written before the second image is encoded, but begun before the third."""
    second, begun, names = threading.Event(), threading.Event(), list[str]()

    def encode(*about: Any, **_: Any) -> bytes:
        names.append(about[2])
        if len(names) == 2:
            second.set()
        assert len(names) < 3 or begun.wait(60)
        return b"embedding"

    def put(_: LocalStore, key: str, data: bytes) -> None:
        begun.set()
        assert second.wait(60), key

    engine("ingest", photos, tmp_path / "data")
    worker = EmbedWorker(EmbedJob(str(tmp_path / "data"), find_model(str(tiny_checkpoint)), "cpu", 1, 10**6))
    if device == "cuda":  # as it is there: the thread that asks does all the work, and many cores belong to a GPU
        worker._job = replace(worker._job, device=device, threads=16)
        monkeypatch.setattr("sam_core.lanes.open_lanes", lambda *_: _Here())
    monkeypatch.setattr("workflows.embed.embed_image", encode)
    monkeypatch.setattr(LocalStore, "put", put)
    paths = sorted(photos.iterdir())
    row = {"image_ids": [image_id(path.read_bytes()) for path in paths], "uris": [[str(path)] for path in paths]}
    assert worker(row) == {"images": 6, "failures": []}
    assert names == row["image_ids"]


def test_a_limit_on_pixels_is_one_on_bytes(tmp_path: Path, tiny_checkpoint: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.touch()
    os.truncate(picture, 65 << 20)
    open_dataset(LocalStore(tmp_path))
    worker = EmbedWorker(EmbedJob(str(tmp_path), find_model(str(tiny_checkpoint)), "cpu", threads=1, max_pixels=1000))
    done = worker({"image_ids": ["ab" * 16], "uris": [[str(picture)]]})
    assert done["failures"] == [f"{picture}: 68,157,440 bytes are more than the limit of 67,116,864 bytes"]


def test_another_checkpoint_at_the_same_place_is_refused(tmp_path: Path, replaced_model: Model) -> None:
    """Its embeddings would bear the name of the one that was there."""
    with pytest.raises(CheckpointError, match="not the checkpoint that the command began with"):
        EmbedWorker(EmbedJob(str(tmp_path), replaced_model, "cpu", threads=1, max_pixels=1000))


def test_refusals(engine: Engine, tmp_path: Path) -> None:
    refused = engine("embed", tmp_path / "none")
    assert (refused.status, "not a data set" in refused.err) == (2, True)
