"""A folder of small photographs, and one Ray cluster for all tests of this folder."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
from numpy.typing import NDArray
from PIL import Image

from schemas.tables import MASKS, deterministic_columns
from schemas.window import CommittedFiles
from workflows import ray_session
from workflows.cli import main
from workflows.failures import WorkerError
from workflows.models import Model, find_model
from workflows.plans import ShardTask
from workflows.ray_session import Pool
from workflows.shard_worker import ShardJob, ShardSummary, ShardWorker
from workflows.sql import connect
from workflows.train.samples import Sampler
from workflows.train.stream import Loader

BIN = Path(sys.executable).parent
QUICK = ("--points-per-side", "2", "--min-predicted-iou", "0", "--min-stability-score", "0", "--nms-iou", "1")
"""A recipe that keeps several masks of a random model and takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left behind."""

    status: int
    out: str
    err: str


Engine = Callable[..., Finished]
"""Runs `sam-engine` with the arguments that it is called with."""


def save_photos(folder: Path, count: int, *, first: int = 0) -> list[Path]:
    """Small pictures of overlapping rectangles, each different, named photo-000.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(first, first + count):
        random = np.random.default_rng(number)
        pixels = np.full((48, 64, 3), random.integers(0, 256, 3), np.uint8)
        for _ in range(5):
            y, x = random.integers(0, 40), random.integers(0, 56)
            pixels[y : y + random.integers(4, 30), x : x + random.integers(4, 40)] = random.integers(0, 256, 3)
        path = folder / f"photo-{number:03d}.png"
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def save_labelled(folder: Path, pictures: Mapping[int, tuple[NDArray[np.uint8], NDArray[np.uint16]]]) -> Path:
    """images/ and labels/ in a folder, with a PNG of that number for each picture."""
    for kind, place in (("images", 0), ("labels", 1)):
        (folder / kind).mkdir(parents=True)
        for number, picture in pictures.items():
            Image.fromarray(picture[place]).save(folder / kind / f"{number}.png")
    return folder


@contextmanager
def no_more_files() -> Iterator[None]:
    """No file can be opened by this process, as where the machine is at its limit.

    Beyond the three that are open: with a limit of 0 nobody may wait for one either, and the S3 server died of it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def may_not_be_listed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a folder one that may not be listed, also for a superuser."""
    scandir = os.scandir

    def forbid(folder: Path) -> None:
        def refuse(path: str) -> Any:
            if path == str(folder):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return scandir(path)

        monkeypatch.setattr("workflows.storage.os.scandir", refuse)

    return forbid


def mask_rows(dataset: Path | str) -> pa.Table:
    """Everything about the masks of a data set that may not differ when they are made again, in order."""
    columns = ", ".join(deterministic_columns(MASKS))
    return connect(str(dataset)).sql(f"SELECT {columns} FROM masks ORDER BY mask_id").to_arrow_table()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with six photographs."""
    save_photos(tmp_path / "photos", 6)
    return tmp_path / "photos"


@pytest.fixture
def replaced_model(tmp_path: Path, tiny_checkpoint: Path) -> Model:
    """A model whose file holds other weights than when it was found."""
    path = tmp_path / "replaced.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes())
    model = find_model(str(path))
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    return model


@pytest.fixture
def engine(capfd: pytest.CaptureFixture[str]) -> Engine:
    """Runs `sam-engine` in this process."""

    def run(*arguments: str | Path) -> Finished:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Finished(status, *capfd.readouterr())

    return run


class TrainerHere:
    """Stands for a `RayTrainer` with one worker, which is this process."""

    def __init__(self, worker: Callable[[Any], None], *, train_loop_config: Any, **_: object) -> None:
        self._worker, self._settings = worker, train_loop_config

    def give_up(self) -> None:
        raise AssertionError("there are no other workers")

    def fit(self) -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # as Ray's workers have
            self._worker(self._settings)


def loader_here(sampler: ray.ObjectRef[Sampler], count: int) -> list[Any]:
    """Stands for the actors that make samples: one of them, which is this process."""
    loader = Loader(ray.get(sampler))
    return [SimpleNamespace(make=SimpleNamespace(remote=lambda numbers: ray.put(loader.make(numbers))))]


@pytest.fixture
def train_without_ray_train(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Training jobs run here, all but what Ray Train and actors do: these take a dozen processes 45 s of CPU time to
    start."""
    alone = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr("ray.train.get_context", lambda: alone)
    for place in ("workflows.torch_trainer.RayTrainer", "workflows.train.job.RayTrainer"):
        monkeypatch.setattr(place, TrainerHere)
    monkeypatch.setattr("workflows.train.stream.start_loaders", loader_here)
    monkeypatch.setattr("workflows.train.job.Queue", lambda **_: queue.Queue())
    yield
    torch.set_flush_denormal(False)  # what a worker sets for good


@pytest.fixture
def engine_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """`engine` without Ray: shards are worked on here, one after the other.

    For what the command makes of its input; that Ray's workers do the same is for the tests that have a cluster.
    """
    work_here(monkeypatch)
    return engine


def work_here(patch: pytest.MonkeyPatch) -> None:
    """From now on `sam-engine generate` in this process needs no Ray."""

    def run_shards_here(job: ShardJob, tasks: Iterable[ShardTask], pool: Pool) -> Iterator[ShardSummary]:
        worker = ShardWorker(job)
        for task in tasks:
            answer = worker(asdict(task))
            if "failure" in answer:
                raise WorkerError(answer["failure"])
            yield ShardSummary(**answer)

    patch.setattr(ray_session, "start_ray", lambda: None)
    patch.setattr(ray_session, "choose_pool", lambda **_: Pool(workers=1, threads=1, gpus=0))
    patch.setattr(ray_session, "run_shards", run_shards_here)


@dataclass(frozen=True, slots=True)
class RayHead:
    """A running head: its process, its address for drivers, and that of its job server."""

    process: int
    address: str
    jobs: str


@pytest.fixture(scope="session")
def ray_head(s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    """A Ray head with a job server, which RAY_ADDRESS names and this process is connected to.

    Whether it asks for a token is said in the environment, because a head asks by default where it finds one, and no
    client answers by default.
    """
    gcs, dashboard, agent, client = free_ports(4)
    folder = tmp_path_factory.mktemp("r")
    scratch = tempfile.mkdtemp(prefix="r", dir="/tmp")  # names of sockets may not be long
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
        patch.setenv("RAY_metrics_report_interval_ms", "3000")
        patch.setenv("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", "disabled"))
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # an actor less to start
        command = (
            f"{BIN / 'ray'} start --head --block --num-cpus=2 --disable-usage-stats --object-store-memory=200000000 "
            f"--node-ip-address=127.0.0.1 --port={gcs} --dashboard-port={dashboard} --ray-client-server-port={client} "
            f"--dashboard-agent-listen-port={agent} --include-dashboard=true --include-log-monitor=false "
            f"--temp-dir={scratch}"
        )
        with (folder / "head.log").open("w") as log:
            head = subprocess.Popen(command.split(), stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for_words("Ray runtime started", folder / "head.log", head)
            patch.setenv("RAY_ADDRESS", f"127.0.0.1:{gcs}")
            ray.init(log_to_driver=False)
            yield RayHead(head.pid, f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}")
            ray.shutdown()
        finally:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
            shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(ray_head: RayHead) -> str:
    """The head's job server: one Ray cluster for all tests of this folder."""
    return ray_head.jobs


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on.

    Below those that the system itself hands out: one of these would be somebody else's by the time that it is used.
    Nor are they of the ranges from which Ray takes its own.
    """
    found: set[int] = set()
    while len(found) < count:
        port = secrets.choice(range(25_000, 32_000))
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)


def _wait_for_words(words: str, log: Path, head: subprocess.Popen[bytes]) -> None:
    while words not in log.read_text():
        if head.poll() is not None:
            raise RuntimeError(f"the Ray head did not start: {log.read_text()}")
        time.sleep(0.1)


@pytest.fixture
def opened_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Places of committed files of data sets, in the order in which SQL opens them."""
    opened: list[str] = []
    whole = CommittedFiles.open

    def spied(files: CommittedFiles, path: str, *how: Any, **more: Any) -> Any:
        opened.append(path)
        return whole(files, path, *how, **more)

    monkeypatch.setattr(CommittedFiles, "open", spied)
    return opened


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT as Python has it; tests that a script runs in the background would ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
