"""kill -9 of the command, of its Ray and of its workers, at random moments; then the same command again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import boto3
import psutil
import pytest

from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from tests.benchmarks.fault_cluster import Cluster
from tests.benchmarks.fault_findings import Findings
from tests.benchmarks.faults import Bench, Options, disturb, summary
from tests.workflows.cheap_engine import VARIABLE as SABOTAGE
from tests.workflows.conftest import BIN, QUICK, Engine, RayHead, mask_rows, save_photos, work_here
from tests.workflows.fault_proxy import FaultProxy
from workflows import generate
from workflows.sql import connect

KINDS = ["driver", "worker", "in_write"]
IMAGES = 4
COMMAND = [str(BIN / "sam-engine")]
STOPS_AT_THE_FIRST = """
import sys, time
from workflows import ray_session
from workflows.cli import main

def until_killed(*about, work=ray_session.run_shards):
    for done in work(*about):
        yield done
        time.sleep(3600)

ray_session.run_shards = until_killed
sys.exit(main(sys.argv[1:]))
"""
"""The command, which does not come to its end however late the kill is: after the first shard its worker is given one
more."""


class CalmBench(Bench):
    """Its run in peace, with which the others are compared, goes without Ray, whose workers take seconds to start."""

    def here(self, dataset: str) -> int:
        if not dataset.endswith("/peace"):
            return super().here(dataset)
        with pytest.MonkeyPatch.context() as patch:
            work_here(patch)
            return super().here(dataset)


@pytest.fixture
def bench(ray_head: RayHead, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The fault harness on the tests' own cluster and object store, which has no faults of its own here."""
    monkeypatch.setattr(generate, "GeneratorSpec", generate.GeneratorSpec)  # the cheap engine puts its own there
    monkeypatch.delenv(SABOTAGE, raising=False)
    save_photos(tmp_path / "photos", 16)
    save_model(Sam(vit_test()), tmp_path / "model.safetensors")
    client = boto3.client("s3")
    client.create_bucket(Bucket="faults")
    host, _, port = ray_head.address.partition(":")
    cluster = Cluster(host, dict(os.environ), ray_head.process, int(port))
    with (tmp_path / "commands.log").open("w") as log:
        yield CalmBench(tmp_path, cluster, FaultProxy(s3_server), random.Random(3), workers=1, log=log)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_seeded_set_of_disturbed_runs_loses_and_doubles_nothing(bench: Bench) -> None:
    """The fault harness's own runs, half of them with the data set on S3; the actors of a dead driver may still work
    for a moment, beside those of the next."""
    runs = disturb(bench, KINDS, time.monotonic() + 800)
    record = summary(Options(), runs, 0.0)
    assert record["runs"] == len(KINDS)
    assert {name: record[name] for name in asdict(Findings())} == asdict(Findings())
    assert {run.place for run in runs} == {"s3", "folder"}


@pytest.mark.slow
def test_two_drivers_at_once_settle_on_one_plan(bench: Bench) -> None:
    peace, shared = (str(bench.folder / name) for name in ("peace", "shared"))
    assert bench.here(peace) == 0
    drivers = [bench.apart(shared) for _ in range(2)]
    for driver in drivers:
        driver.join()
    assert [driver.exitcode for driver in drivers] == [0, 0]
    assert mask_rows(shared).equals(mask_rows(peace))
    assert not connect(shared).execute("SELECT * FROM problems").fetchall()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_with_its_ray(tmp_path: Path, tiny_checkpoint: Path, engine_alone: Engine) -> None:
    """The real command with a Ray of its own, all of it killed at once while it works; then by a user without a home.

    That Ray is not for others: it listened on every address, and whoever has its token, which it wrote into the home
    for all to read, runs code. Nor does it need a home, where it would keep the token.
    """
    save_photos(tmp_path / "photos", IMAGES)
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    assert engine_alone(*arguments(tmp_path / "photos", calm, tiny_checkpoint)).status == 0
    assert len(mask_rows(calm)) >= IMAGES
    command = [sys.executable, "-c", STOPS_AT_THE_FIRST]
    (tmp_path / "home").mkdir()
    driver = start(
        tmp_path / "photos", disturbed, tiny_checkpoint, command=command, environment=at_home(tmp_path / "home")
    )
    _wait_until(lambda: (disturbed / "outcomes").exists(), driver)
    listening = _listening(driver)
    kill(driver)
    assert listening == {"127.0.0.1"}
    assert not (tmp_path / "home" / ".ray").exists()
    assert connect(str(disturbed)).execute("SELECT count(*) FROM outcomes").fetchall()[0][0] < IMAGES
    again = start(tmp_path / "photos", disturbed, tiny_checkpoint, environment=at_home("/proc/none"))
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert mask_rows(disturbed).equals(mask_rows(calm))
    assert not connect(str(disturbed)).execute("SELECT * FROM problems").fetchall()
    assert not list((disturbed / "in_flight").rglob("*.json"))


def arguments(source: Path, dataset: Path, model: Path) -> list[str]:
    return ["generate", str(source), str(dataset), "--model", str(model), *QUICK, "--shard-size", "1", "--workers", "1"]


def at_home(home: Path | str) -> dict[str, str]:
    """The environment of a user with that home, to whom nobody has said a word of Ray."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(home)}


def start(
    source: Path,
    dataset: Path,
    model: Path,
    *,
    command: Sequence[str] = COMMAND,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """The command in a process group of its own, with a Ray that it starts by itself."""
    return subprocess.Popen(
        [*command, *arguments(source, dataset, model)],
        env={name: value for name, value in (environment or os.environ).items() if name != "RAY_ADDRESS"},
        start_new_session=True,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def kill(driver: subprocess.Popen[str]) -> None:
    """SIGKILL to everything that a driver has started, then to itself; wait until all of it is gone."""
    started = psutil.Process(driver.pid).children(recursive=True)
    for process in started:
        _kill_quietly(process)
    driver.kill()
    driver.communicate()
    psutil.wait_procs([process for process in started if "Agent" not in _name(process)], timeout=60)


def _listening(driver: subprocess.Popen[str]) -> set[str]:
    """Addresses at which the command and what it has started take connections."""
    found: set[str] = set()
    for process in [*(root := psutil.Process(driver.pid)).children(recursive=True), root]:
        with contextlib.suppress(psutil.NoSuchProcess):
            connections = [each for each in process.net_connections() if each.status == psutil.CONN_LISTEN]
            found |= {each.laddr.ip.removeprefix("::ffff:") for each in connections}
    return found


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
