"""Commands that write many files, killed at every write: the same command ends as if it never had been.

A command is killed at its first write, begun again and killed at its second, and so on until it comes to its end.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.fake_clip import FakeSource
from tests.workflows.conftest import Engine, save_photos
from tests.workflows.exchange.conftest import Masked, coco_document
from workflows import ray_session
from workflows.failures import WorkerError
from workflows.ray_session import Pool
from workflows.storage import LocalStore

CLOCKS = {"ingested_at", "created_at", "happened_at", "started_at", "finished_at", "seconds"}
Command = list[str | Path]


class Killed(BaseException):
    """The process is gone: nothing catches it."""


class Mortal:
    """Lets so many writes of the local store through, from whichever thread; then nothing is written any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1 << 30
        self._lock = threading.Lock()
        for name in ("put", "put_file", "put_if_absent", "delete"):
            monkeypatch.setattr(LocalStore, name, self._counted(getattr(LocalStore, name)))

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any) -> Any:
            with self._lock:
                if not self.left:
                    raise Killed
                self.left -= 1
                return write(*arguments)

        return attempt


def map_here(worker: type, job: object, rows: Iterable[dict[str, Any]], pool: Pool) -> Iterator[dict[str, Any]]:
    """Stands for `map_actors`: the worker is this process."""
    made = worker(job)
    for row in rows:
        answer = made(row)
        if "failure" in answer:
            raise WorkerError(answer["failure"])
        yield answer


class Lives:
    """Runs commands in this process, without Ray, with small pieces of work and a CLIP without weights."""

    def __init__(self, engine: Engine, mortal: Mortal) -> None:
        self._engine, self._mortal = engine, mortal

    def undisturbed(self, command: Command) -> int:
        self._mortal.left = 1 << 30
        status = self._engine(*command).status
        assert status in (0, 1)
        return status

    def killed_at_every_write(self, command: Command) -> int:
        """How often it was killed."""
        for writes in range(1000):
            self._mortal.left = writes
            try:
                assert self._engine(*command).status in (0, 1)
            except Killed:
                continue
            return writes
        raise AssertionError("it never comes to its end")


@pytest.fixture
def lives(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Lives:
    monkeypatch.setattr(FakeSource, "name", "fake", raising=False)
    monkeypatch.setattr(ray_session, "start_ray", lambda: None)
    monkeypatch.setattr(ray_session, "choose_pool", lambda **_: Pool(workers=1, threads=1, gpus=0))
    monkeypatch.setattr(ray_session, "map_actors", map_here)
    monkeypatch.setattr(ray_session, "map_chunks", map)
    for place in ("text.tag", "crops.job"):
        monkeypatch.setattr(f"workflows.{place}.find_clip", lambda folder: FakeSource())
    for name, size in (
        ("crops.job.MASKS_PER_CHUNK", 2),
        ("exchange.importing.IMAGES_PER_SHARD", 2),
        ("protect.protect.IMAGES_PER_PAGE", 2),
        ("relate._SHARDS_AT_ONCE", 1),
    ):
        monkeypatch.setattr(f"workflows.{name}", size)
    return Lives(engine, Mortal(monkeypatch))


def contents(root: Path) -> dict[str, object]:
    """What lies in a folder, but for times."""
    return {str(path.relative_to(root)): _content(path) for path in sorted(root.rglob("*")) if path.is_file()}


def _content(path: Path) -> object:
    if path.suffix == ".parquet":
        table = pq.ParquetFile(path).read()
        return sorted(map(repr, table.select([name for name in table.column_names if name not in CLOCKS]).to_pylist()))
    if path.name == "dataset.json" or path.parent.name == "runs":
        return {name: value for name, value in json.loads(path.read_text()).items() if name != "created_at"}
    return path.read_bytes()


def check(lives: Lives, root: Path, command: Command, begin: Callable[[], object] = lambda: None) -> None:
    """`begin` makes what a command finds at `root`."""
    begin()
    status = lives.undisturbed(command)
    whole = contents(root)
    shutil.rmtree(root)
    begin()
    assert lives.killed_at_every_write(command)
    assert contents(root) == whole
    assert lives.undisturbed(command) == status
    assert contents(root) == whole


@pytest.mark.parametrize("kind", ["sa1b", "labels"])
def test_export(lives: Lives, masked: Masked, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    check(lives, out, ["export", masked.root, out, "--format", kind, "--images-per-file", "2"])


@pytest.mark.parametrize(
    ("command", "before"),
    [
        (["relate", "--containment", "0.7"], ["relate"]),
        (["tag", "--clip", "clip", "--words", "words"], ["tag", "--clip", "clip", "--words", "others"]),
        (["crops", "--clip", "clip", "--min-area", "1"], None),
    ],
)
def test_what_is_said_of_masks(
    lives: Lives, masked: Masked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, before: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words").write_text("red\ngreen\nblue\n")
    Path("others").write_text("black\nwhite\n")

    def begin() -> None:
        shutil.copytree(masked.root, "data")
        if before:
            assert lives.undisturbed([before[0], "data", *before[1:]]) == 0

    check(lives, Path("data"), [command[0], "data", *command[1:]], begin)


def test_protect(lives: Lives, tmp_path: Path) -> None:
    save_photos(tmp_path / "photos", 5)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file_name,x,y,w,h\nphoto-000.png,1,1,20,20\nphoto-003.png,1,1,20,20\nphoto-004.png,99,99,2,2\n")
    check(lives, tmp_path / "out", ["protect", tmp_path / "photos", tmp_path / "out", "--boxes", boxes])


def test_import_of_a_correction(lives: Lives, tmp_path: Path) -> None:
    document = coco_document(save_photos(tmp_path / "images", 3))
    source, root = tmp_path / "instances.json", tmp_path / "data"
    source.write_text(json.dumps(document))
    assert lives.undisturbed(["import", source, root]) == 0
    first = shutil.move(root, tmp_path / "first")
    del document["annotations"][1]
    document["annotations"][0]["segmentation"][0][-1] = 44.0
    source.write_text(json.dumps(document))
    check(lives, root, ["import", source, root], lambda: shutil.copytree(first, root))


def test_import_of_a_model_s_masks(lives: Lives, masked: Masked, tmp_path: Path) -> None:
    assert lives.undisturbed(["export", masked.root, tmp_path / "sa1b", "--format", "sa1b"]) == 0
    check(lives, tmp_path / "data", ["import", tmp_path / "sa1b", tmp_path / "data"])
