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

IMAGES = 20
KILLS = 6


def start(source: Path, dataset: Path, model: Path) -> subprocess.Popen[str]:
    """The command in a process group of its own; it starts Ray on this machine by itself."""
    command = [BIN / "sam-engine", "generate", source, dataset, "--model", model, *QUICK, "--shard-size", "1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_ADDRESS")}
    return subprocess.Popen(
        [str(word) for word in command],
        env=environment,
        start_new_session=True,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


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


def committed(dataset: Path) -> int:
    return len(list((dataset / "outcomes").rglob("shard-*.parquet")))


@pytest.mark.timeout(1500)
def test_interrupted_anywhere_the_masks_are_those_of_an_undisturbed_run(tmp_path: Path, tiny_checkpoint: Path) -> None:
    photos, disturbed, whole = tmp_path / "photos", tmp_path / "disturbed", tmp_path / "whole"
    save_photos(photos, IMAGES)
    moments = random.Random(7)
    targets = sorted(moments.sample(range(IMAGES - 2), KILLS - 1))
    for number, target in enumerate([None, *targets]):
        driver = start(photos, disturbed, tiny_checkpoint)
        if target is None:  # somewhere in starting, listing and planning
            _wait_until(lambda: (disturbed / "dataset.json").exists(), driver)
        else:
            _wait_until(lambda target=target: committed(disturbed) > target, driver)
        time.sleep(moments.uniform(0, 0.2))
        kill(driver, whole_group=number % 2 == 0)
        assert committed(disturbed) < IMAGES, "killed too late to prove anything"
    for dataset in (disturbed, whole):
        driver = start(photos, dataset, tiny_checkpoint)
        _, errors = driver.communicate()
        assert driver.returncode == 0, errors
    assert len(mask_rows(whole)) >= IMAGES
    assert mask_rows(disturbed).equals(mask_rows(whole))
    connection = connect(str(disturbed))
    assert not connection.execute("SELECT * FROM problems").fetchall()
    assert connection.execute("SELECT count(*) FROM outcomes WHERE status = 'ok'").fetchall() == [(IMAGES,)]
    assert not list((disturbed / "in_flight").rglob("*.json"))


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
