"""kill -9 of the real command, its local Ray with it, at random moments; then the same command again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.workflows.conftest import BIN, QUICK, mask_rows, save_photos
from workflows.sql import connect
from workflows.storage import Store, open_store

IMAGES = 24


@pytest.mark.timeout(1500)
def test_killed_three_times_with_its_ray(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    disturb_and_compare(tmp_path / "photos", str(tmp_path / "data"), tiny_checkpoint, kills=3, seed=7)


@pytest.mark.usefixtures("cluster")
@pytest.mark.timeout(1500)
def test_driver_killed_on_a_cluster_with_the_data_set_on_s3(tmp_path: Path, bucket: str, tiny_checkpoint: Path) -> None:
    """The actors of a dead driver may still work for a moment, beside those of the next."""
    disturb_and_compare(tmp_path / "photos", f"s3://{bucket}", tiny_checkpoint, kills=3, seed=1)


def disturb_and_compare(photos: Path, folder: str, model: Path, *, kills: int, seed: int) -> None:
    """A data set made under kills holds the rows of one made in peace, byte for byte."""
    disturbed, whole = f"{folder}/disturbed", f"{folder}/whole"
    save_photos(photos, IMAGES)
    store = open_store(disturbed)
    moments = random.Random(seed)
    targets = sorted(moments.sample(range(IMAGES - 4), kills - 1))
    for number, target in enumerate([None, *targets]):
        driver = start(photos, disturbed, model)
        if target is None:  # somewhere in starting, listing and planning
            _wait_until(lambda: store.exists("dataset.json"), driver)
        else:
            _wait_until(lambda target=target: committed(store) > target, driver)
        time.sleep(moments.uniform(0, 0.2))
        kill(driver, whole_group=number % 2 == 0)
        assert committed(store) < IMAGES, "killed too late to prove anything"
    for dataset in (disturbed, whole):
        driver = start(photos, dataset, model)
        _, errors = driver.communicate()
        assert driver.returncode == 0, errors
    assert len(mask_rows(whole)) >= IMAGES
    assert mask_rows(disturbed).equals(mask_rows(whole))
    connection = connect(disturbed)
    assert not connection.execute("SELECT * FROM problems").fetchall()
    assert connection.execute("SELECT count(*) FROM outcomes WHERE status = 'ok'").fetchall() == [(IMAGES,)]
    assert not list(store.list("in_flight"))


def start(source: Path, dataset: str, model: Path) -> subprocess.Popen[str]:
    """The command in a process group of its own; without a cluster it starts Ray on this machine by itself."""
    command = [BIN / "sam-engine", "generate", source, dataset, "--model", model, *QUICK, "--shard-size", "1"]
    return subprocess.Popen(
        [str(word) for word in command],
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
