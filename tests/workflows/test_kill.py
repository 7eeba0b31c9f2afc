"""kill -9 of the real command, its local Ray with it, at random moments; then the same command again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from tests.workflows.conftest import BIN, QUICK, mask_rows, save_photos
from workflows.cli import main
from workflows.sql import connect
from workflows.storage import Store, open_store

IMAGES = 24


@dataclass(frozen=True, slots=True)
class Whole:
    """A folder of photographs and the mask rows that they give in peace."""

    photos: Path
    rows: pa.Table


@pytest.fixture(scope="module")
def whole(cluster: str, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    save_photos(folder / "photos", IMAGES)
    assert main(arguments(folder / "photos", str(folder / "data"), tiny_checkpoint)) == 0
    rows = mask_rows(folder / "data")
    assert len(rows) >= IMAGES
    return Whole(folder / "photos", rows)


@pytest.mark.timeout(900)
def test_killed_with_its_ray(whole: Whole, tmp_path: Path, tiny_checkpoint: Path) -> None:
    disturb_and_compare(whole, str(tmp_path / "data"), tiny_checkpoint, kills=1, seed=7, own_ray=True)


@pytest.mark.timeout(900)
def test_driver_killed_on_a_cluster_with_the_data_set_on_s3(whole: Whole, bucket: str, tiny_checkpoint: Path) -> None:
    """The actors of a dead driver may still work for a moment, beside those of the next."""
    disturb_and_compare(whole, f"s3://{bucket}/data", tiny_checkpoint, kills=4, seed=1, own_ray=False)


def disturb_and_compare(whole: Whole, dataset: str, model: Path, *, kills: int, seed: int, own_ray: bool) -> None:
    """A data set made under kills holds the rows of one made in peace, byte for byte."""
    store = open_store(dataset)
    moments = random.Random(seed)
    targets = sorted(moments.sample(range(IMAGES - 4), kills - 1))
    for number, target in enumerate([None, *targets]):
        driver = start(whole.photos, dataset, model, own_ray=own_ray)
        if target is None:  # somewhere in starting, listing and planning
            _wait_until(lambda: store.exists("dataset.json"), driver)
        else:
            _wait_until(lambda target=target: committed(store) > target, driver)
        time.sleep(moments.uniform(0, 0.2))
        kill(driver, whole_group=number % 2 == 0)
        assert committed(store) < IMAGES, "killed too late to prove anything"
    driver = start(whole.photos, dataset, model, own_ray=own_ray)
    _, errors = driver.communicate()
    assert driver.returncode == 0, errors
    assert mask_rows(dataset).equals(whole.rows)
    connection = connect(dataset)
    assert not connection.execute("SELECT * FROM problems").fetchall()
    assert connection.execute("SELECT count(*) FROM outcomes WHERE status = 'ok'").fetchall() == [(IMAGES,)]
    assert not list(store.list("in_flight"))


def arguments(source: Path, dataset: str, model: Path) -> list[str]:
    return ["generate", str(source), dataset, "--model", str(model), *QUICK, "--shard-size", "1"]


def start(source: Path, dataset: str, model: Path, *, own_ray: bool) -> subprocess.Popen[str]:
    """The command in a process group of its own, on the cluster or with a Ray that it starts by itself."""
    return subprocess.Popen(
        [str(BIN / "sam-engine"), *arguments(source, dataset, model)],
        env={name: value for name, value in os.environ.items() if not (own_ray and name == "RAY_ADDRESS")},
        start_new_session=True,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def committed(store: Store) -> int:
    return sum(entry.key.endswith(".parquet") for entry in store.list("outcomes"))


def kill(driver: subprocess.Popen[str], *, whole_group: bool) -> None:
    """SIGKILL to the driver alone, or to everything it has started; then wait until all of it is gone."""
    started = psutil.Process(driver.pid).children(recursive=True)
    if whole_group:
        for process in started:
            _kill_quietly(process)
    driver.kill()
    driver.communicate()
    workers = [process for process in started if "Agent" not in _name(process)]
    psutil.wait_procs(workers, timeout=60)


def _wait_until(condition: Callable[[], bool], driver: subprocess.Popen[str]) -> None:
    while not condition():
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.005)


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _kill_quietly(process: psutil.Process) -> None:
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
