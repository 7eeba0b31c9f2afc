"""Workers that die under Ray, and how many there are."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pytest
import ray
from ray._private import utils as ray_utils

from schemas.catalog import connect, query
from tests.workflows import fakes
from tests.workflows.fault_proxy import closed_port
from tests.workflows.planned import plan, planned
from workflows import actor_pool, ray_session
from workflows.failures import WorkerError
from workflows.ray_session import Pool, _folder_of_ray, choose_pool, map_chunks, run_shards, start_ray
from workflows.storage import LocalStore

COLD = """
import json, os, ray
from workflows.commands import TrainCommand
from workflows.devices import choose_device
from workflows.ray_session import choose_pool
from workflows.train.job import _require_room

ray.init(address="local", num_cpus=0, num_gpus=0, include_dashboard=False, object_store_memory=80_000_000)
asked = [(None, None, True), (16, None, True), (16, 8, True), (None, None, False), (4, 1, False)]
pools = [choose_pool(workers=w, threads=t, on_gpu=g) for w, t, g in asked]
print(json.dumps([[pool.workers, pool.threads, pool.gpus] for pool in pools]))
os.environ["RAY_ADDRESS"] = "auto"
for device in ("cuda", "cpu"):
    _require_room(TrainCommand(("x",), workers=16, device=device), gpus=choose_device(device) == "cuda")
"""
UNUSABLE = """
import os, resource, sys
from workflows.ray_session import start_ray

for folder in sys.argv[1:]:
    os.environ["TMPDIR"] = folder
    try:
        start_ray()
    except OSError as error:
        print(error, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # for the second
"""
ONE = Pool(workers=1, threads=1, gpus=0)


def work(folder: Path, ends: Sequence[int], source: fakes.FakeSource) -> list[str]:
    """Status of every image after a run with two images to a shard."""
    store = LocalStore(folder / "data")
    images = [
        planned(fakes.save_flat(folder / f"{number}.png", end, size=(8 + number, 6))) for number, end in enumerate(ends)
    ]
    tasks = plan(store, images, shard_size=2)
    start_ray()
    summaries = list(run_shards(fakes.shard_job(store.root, source=source), tasks, ONE))
    assert sorted(summary.shard for summary in summaries) == [task.shard for task in tasks]
    status = {
        row["image_id"]: row["status"]
        for row in query(connect(store.root), "SELECT image_id, status FROM outcomes").to_pylist()
    }
    return [status[image.image_id] for image in images]


@pytest.mark.slow
def test_a_killer_image_ends_as_crashed_and_the_rest_is_done(cluster: str, tmp_path: Path) -> None:
    ends = [fakes.FINE, fakes.FINE, fakes.KILLS, fakes.FINE]
    assert work(tmp_path, ends, fakes.FakeSource()) == ["ok", "ok", "crashed", "ok"]


@pytest.mark.slow
def test_no_image_is_blamed_for_a_machine_that_was_taken_away(cluster: str, tmp_path: Path) -> None:
    source = fakes.FakeSource(died=str(tmp_path / "died"))
    assert work(tmp_path, [fakes.FINE] * 4, source) == ["ok"] * 4
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_sigterm_is_answered_as_before_ray_came(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """What Ray does at SIGTERM ends in abort() where leaving takes three seconds: status 134 for 143; while it begins,
    with status 15 and no word."""

    def init(**_: object) -> None:
        ray_utils.set_sigterm_handler(lambda *_: sys.exit(1))
        assert signal.getsignal(signal.SIGTERM) is mine
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        if fails:
            raise ConnectionError

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr(ray_session, "watch_head", lambda: None)
    before = signal.signal(signal.SIGTERM, mine := lambda *_: sys.exit(signal.SIGTERM))
    try:
        with pytest.raises(ConnectionError) if fails else contextlib.nullcontext():
            start_ray()
        assert signal.getsignal(signal.SIGTERM) is mine
        ray_utils.set_sigterm_handler(before)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_address_that_is_none_is_said_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own words are "Invalid address format: somewhere"."""

    def init(**_: object) -> None:
        raise ValueError("Invalid address format: somewhere")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ValueError, match="RAY_ADDRESS=somewhere is no address of a Ray cluster, such as 10"):
        start_ray()


def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray asked a closed port for a quarter of an hour."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("asked all the same"))
    with closed_port() as address:
        monkeypatch.setenv("RAY_ADDRESS", address.removeprefix("http://"))
        with pytest.raises(ConnectionError, match=r"^no Ray cluster answers at RAY_ADDRESS=127.*Connection refused\)$"):
            start_ray()


def test_ray_is_started_from_a_thread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no handler can be set, as Ray sets none there either."""
    begun: list[object] = []
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    monkeypatch.setattr("ray.init", lambda **_: begun.append(1))
    monkeypatch.setattr(ray_session, "watch_head", lambda: None)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(signal.SIGTERM))
    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(start_ray).result()
        assert begun
    finally:
        signal.signal(signal.SIGTERM, before)


def doubled_but_dying(folder: Path, times: int) -> Callable[[pa.Table], pa.Table]:
    """Doubles a column; where it holds a 2, its process dies the first times."""

    def work(chunk: pa.Table) -> pa.Table:
        if 2 in chunk["n"].to_pylist() and len(list(folder.iterdir())) < times:
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return pa.table({"n": [2 * n for n in chunk["n"].to_pylist()]})

    return work


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("deaths", [1, 9])
def test_a_chunk_that_is_lost_with_its_worker_is_done_again_within_limits(
    deaths: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray did it again without an end where a worker was ended because memory was short."""
    monkeypatch.setattr(ray_session, "ROW_RETRIES", 1)
    chunks = [pa.table({"n": [n]}) for n in range(4)]
    answers = map_chunks(doubled_but_dying(tmp_path, deaths), iter(chunks))
    if deaths > 1:
        with pytest.raises(WorkerError, match=r"^the work was given up: The worker died unexpectedly"):
            list(answers)
        assert len(list(tmp_path.iterdir())) == 2
    else:
        assert sorted(answer["n"][0].as_py() for answer in answers) == [0, 2, 4, 6]


@pytest.mark.slow
def test_a_worker_that_is_told_to_go_is_replaced_and_its_shard_repeated(cluster: str, tmp_path: Path) -> None:
    """A notice is SIGTERM, which Ray turns into SystemExit: it must count as a lost worker, not as a finished one."""
    source = fakes.FakeSource(died=str(tmp_path / "died"), death=signal.SIGTERM)
    assert work(tmp_path, [fakes.FINE] * 4, source) == ["ok"] * 4
    assert (tmp_path / "died").exists()
    assert not list(LocalStore(tmp_path / "data").list("in_flight"))


@pytest.mark.slow
def test_a_model_that_no_worker_can_load_is_one_line(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_pool, "STARTS", 1)
    with pytest.raises(WorkerError, match="broken checkpoint") as caught:
        work(tmp_path, [fakes.FINE], fakes.FakeSource(model_error="broken checkpoint"))
    assert "\n" not in str(caught.value)


def test_the_pool_follows_the_machine_unless_told_otherwise(cluster: str) -> None:
    assert choose_pool(workers=None, threads=None, on_gpu=False) == Pool(1, 2, 0)
    assert choose_pool(workers=None, threads=1, on_gpu=False) == Pool(2, 1, 0)
    assert choose_pool(workers=3, threads=None, on_gpu=False) == Pool(3, 2, 0)
    assert choose_pool(workers=None, threads=None, on_gpu=True) == Pool(1, 2, 1)


@pytest.mark.usefixtures("cluster")
def test_native_code_does_not_write_to_the_terminal() -> None:
    """Every command on a cluster ended in forty lines of what DuckDB's objects are that it had not freed."""
    program = "import os, sys; from workflows.ray_session import start_ray; start_ray(); os.write(2, b'native')"
    said = [sys.executable, "-c", f"{program}; print('said', file=sys.stderr)"]
    assert subprocess.run(said, capture_output=True, text=True, check=True).stderr == "said\n"


def test_more_threads_than_the_machine_has_are_not_waited_for(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--threads 8` on two cores waited without end for "room in the cluster"; a real one may yet start a machine."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for on_gpu in (False, True):
        with pytest.raises(ValueError, match="--threads 8: this machine has 2 CPU cores"):
            choose_pool(workers=None, threads=8, on_gpu=on_gpu)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert choose_pool(workers=None, threads=8, on_gpu=False) == Pool(1, 8, 0)


def test_a_worker_fits_beside_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cores of a head without a GPU were shared out too: no machine had room for such workers, which was waited for
    without an end."""
    machines = [{"CPU": 128}, {"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 1}]
    nodes = [{"Alive": True, "Resources": each} for each in machines]
    nodes.append({"Alive": False, "Resources": {"CPU": 1, "GPU": 1}})
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert choose_pool(workers=None, threads=None, on_gpu=True) == Pool(5, 4, 1)
    assert choose_pool(workers=2, threads=8, on_gpu=True) == Pool(2, 8, 1)


def test_a_worker_fits_on_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores of several machines were added up: on machines of one core each, workers of two were waited for without an
    end."""
    machines: list[dict[str, float]] = []
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": each} for each in machines])
    machines[:] = [{"CPU": 1}, {"CPU": 1}, {"CPU": 1}]
    assert choose_pool(workers=None, threads=None, on_gpu=False) == Pool(3, 1, 0)
    machines[:] = [{}, {"CPU": 3}, {"CPU": 3}]
    assert choose_pool(workers=None, threads=None, on_gpu=False) == Pool(2, 2, 0)
    assert choose_pool(workers=None, threads=1, on_gpu=False) == Pool(6, 1, 0)


@pytest.mark.slow
def test_a_cluster_that_has_no_machine_yet_is_asked_for_what_was_said() -> None:
    """As an autoscaler's head is, which books neither cores nor GPUs."""
    done = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pools = json.loads(done.stdout.splitlines()[-1])
    assert pools == [[1, 2, 1], [16, 2, 1], [16, 8, 1], [1, 2, 0], [4, 1, 0]]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is where nobody may make a folder")
def test_a_temporary_folder_that_ray_cannot_use_is_named_at_once(tmp_path: Path) -> None:
    """Ray waits half a minute for files that it could not write, and then names one of them."""
    places = {"/proc/none": "No such file or directory", str(tmp_path): "File too large"}
    home = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"TMPDIR": "/proc/none"}
    command = [sys.executable, "-c", UNUSABLE, *places]
    ran = subprocess.run(command, env=home, capture_output=True, text=True, timeout=300, check=True)
    for said, (place, why) in zip(ran.stdout.splitlines(), places.items(), strict=True):
        assert said.endswith(f"{why} (Ray's files lie there; TMPDIR names another folder): '{place}'")


def test_ray_s_own_folder_in_one_that_may_not_be_written_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray makes it for all users of a machine."""

    def refused(*, dir: Path) -> BinaryIO:
        if dir == tmp_path / "ray":
            return io.BytesIO()
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(PermissionError, match="TMPDIR names another folder"):
        _folder_of_ray()
    (tmp_path / "ray").mkdir()
    assert _folder_of_ray() == str(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp's words")
@pytest.mark.parametrize(("given", "said"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_somebody_says_otherwise(given: str | None, said: str) -> None:
    """The library of torch's threads tells what it has read, when it is loaded."""
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    asked = others | {"OMP_DISPLAY_ENV": "TRUE"} | ({"OMP_WAIT_POLICY": given} if given else {})
    command = [sys.executable, "-c", "import workflows.embed, torch"]
    told = subprocess.run(command, env=asked, capture_output=True, text=True, check=True).stderr
    assert f"OMP_WAIT_POLICY = '{said}'" in told
