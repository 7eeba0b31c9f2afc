"""A data set of small photographs, the task on it, and the server over real HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from sam_core.export_onnx import OnnxDecoder, export_decoder
from sam_core.masks.rle import encode
from sam_core.model.sam import Sam

pytest.importorskip("fastapi", reason="needs the extra `annotate`")

import uvicorn
import uvicorn.server
from fastapi.testclient import TestClient

from schemas.layout import masks_key, outcomes_key, run_key
from schemas.parquet import to_parquet_bytes
from schemas.records import to_json
from schemas.tables import Status
from tests.workflows.conftest import save_photos
from tests.workflows.fakes import half_mask, run_record
from workflows.annotate import assistant
from workflows.annotate.assets import Runtime, find_runtime
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.server import create_app
from workflows.annotate.studio import Studio, open_studio
from workflows.cli import main
from workflows.convert import ImageResult, mask_table, outcome_table
from workflows.sql import connect
from workflows.storage import open_store

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Rows = dict[str, Any]


@pytest.fixture(scope="session", autouse=True)
def _one_export_per_model() -> Iterator[None]:
    """Tracing takes seconds and gives the same graphs for the same weights: once per model is enough for all tests."""
    kept: dict[str, OnnxDecoder] = {}

    def export(sam: Sam) -> OnnxDecoder:
        if sam.config.name not in kept:
            kept[sam.config.name] = export_decoder(sam)
        return kept[sam.config.name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assistant, "export_decoder", export)
        yield


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four photographs of 64 x 48 px."""
    folder = tmp_path_factory.mktemp("annotate")
    save_photos(folder / "photos", 4)
    assert main(["ingest", str(folder / "photos"), str(folder / "data")]) == 0
    return folder / "data"


@pytest.fixture
def config(ingested: Path, tiny_checkpoint: Path, tmp_path: Path) -> AnnotateConfig:
    """A task on a copy of the data set, by a tiny model."""
    import shutil

    shutil.copytree(ingested, tmp_path / "data")
    return AnnotateConfig(dataset=str(tmp_path / "data"), model=str(tiny_checkpoint), threads=1)


@pytest.fixture
def studio(config: AnnotateConfig) -> Studio:
    return open_studio(config)


def client_of(studio: Studio, *, token: str | None = None) -> TestClient:
    """A client that looks like a browser on this machine."""
    app = create_app(studio, token=token, runtime=None)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def client(studio: Studio) -> TestClient:
    return client_of(studio)


def blob(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A bool mask of a disc with a hole, somewhere."""
    random = np.random.default_rng(seed)
    y, x = np.ogrid[:height, :width]
    distance = np.hypot(y - random.uniform(10, height - 10), x - random.uniform(10, width - 10))
    return (distance < random.uniform(5, 10)) & (distance > 2)


def mask_row(image_id: str, mask: np.ndarray, *, mask_id: str = "m1", revision: int = 1, **other: Any) -> Rows:
    return {
        "mask_id": mask_id,
        "revision": revision,
        "image_id": image_id,
        "rle": encode(mask).decode(),
        "created_at": MOMENT.isoformat(),
    } | other


def event_row(sequence: int, action: str, image_id: str | None, **other: Any) -> Rows:
    row = {"sequence": sequence, "action": action, "image_id": image_id, "happened_at": MOMENT.isoformat()}
    return row | other


def body(annotator: str = "Ada", masks: list[Rows] | None = None, events: list[Rows] | None = None) -> Rows:
    return {"annotator": annotator, "masks": masks or [], "events": events or []}


@dataclass(slots=True)
class Running:
    """A server in a thread of this process, which can be stopped and started again at the same address."""

    config: AnnotateConfig
    make_runtime: Callable[[], Any]
    port: int = 0
    server: uvicorn.Server | None = None
    thread: threading.Thread | None = None

    def start(self) -> str:
        import socket

        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        app = create_app(open_studio(self.config), token=None, runtime=self.make_runtime())
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        return self.address

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        if self.server and self.thread:
            self.server.should_exit = True
            self.thread.join()
            self.server = None


@pytest.fixture(scope="module")
def one_chromium() -> Iterator[Browser]:
    from tests.workflows.annotate.browser import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture
def browser(one_chromium: Browser) -> Iterator[Browser]:
    """A browser whose pages end with the test: they would go on asking for a server that has ended."""
    yield one_chromium
    for context in one_chromium.contexts:
        context.close()


@pytest.fixture(scope="module")
def runtime() -> Runtime | None:
    """ONNX Runtime Web if this machine can get it."""
    try:
        return find_runtime()
    except OSError:
        return None


@pytest.fixture
def running() -> Iterator[Callable[..., Running]]:
    """Starts servers, and stops them at the end of the test."""
    with servers() as start:
        yield start


@contextmanager
def servers() -> Iterator[Callable[..., Running]]:
    """Starts servers, which are stopped at the end; uvicorn looks for it 200 times a second instead of 10."""
    started = []
    often = SimpleNamespace(**(vars(asyncio) | {"sleep": lambda seconds: asyncio.sleep(seconds / 20)}))

    def start(config: AnnotateConfig, *, runtime: Any = None, **changes: Any) -> Running:
        server = Running(replace(config, **changes), lambda: runtime)
        server.start()
        started.append(server)
        return server

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.server, "asyncio", often)
        yield start
        for server in started:
            server.stop()


def save_photo(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def ingest_photo(folder: Path, name: str, pixels: np.ndarray) -> Path:
    """A data set of one photograph; `name` is its own and the photograph's."""
    (folder / "photos").mkdir()
    save_photo(folder / "photos" / f"{name}.png", pixels)
    assert main(["ingest", str(folder / "photos"), str(folder / name)]) == 0
    return folder / name


def add_run(config: AnnotateConfig, *, shards: int = 1) -> None:
    """A run that found the left half of every image."""
    store, run = open_store(config.dataset), run_record()
    images = [image for (image,) in connect(config.dataset).sql("SELECT image_id FROM images ORDER BY 1").fetchall()]
    moment = run.created_at
    results = [ImageResult(image, Status.OK, moment, moment, generation=half_mask((48, 64))) for image in images]
    store.put(run_key(run.run_id), to_json(run).encode())
    size = -(-len(results) // shards)
    for shard in range(shards):
        done = results[shard * size : (shard + 1) * size]
        store.put(masks_key(run.run_id, shard), to_parquet_bytes(mask_table(run, done)))
        store.put(outcomes_key(run.run_id, shard), to_parquet_bytes(outcome_table(run.run_id, shard, done)))
