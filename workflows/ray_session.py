"""Ray, found or started: a cluster when RAY_ADDRESS names one, else this machine, quietly."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import pyarrow as pa
import ray
from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray.exceptions import AuthenticationError, RayError, RayTaskError

from workflows.actor_pool import ROW_RETRIES, ActorPool, given_up
from workflows.failures import WorkerError, one_line
from workflows.image_worker import ShardJob
from workflows.plans import ShardTask
from workflows.ray_head import watch_head
from workflows.shard_worker import ShardSummary, ShardWorker

OBJECT_STORE_BYTES = 256 << 20  # shards travel as row ranges: nothing large passes through Ray
CORES_PER_WORKER = 2
CHUNKS_AHEAD = 32
ANSWER_SECONDS = 20.0
LEAST_ROOM = 1 << 20


def start_ray() -> None:
    """Join the cluster of RAY_ADDRESS or start Ray on this machine, unless this process has it already."""
    if ray.is_initialized():
        return
    quiet = {"configure_logging": True, "logging_level": logging.ERROR, "log_to_driver": False}
    with _answering_sigterm_as_before(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what a later Ray will do
        if os.environ.get("RAY_ADDRESS"):
            _join_cluster(quiet)
        else:
            _start_here(quiet)
    watch_head()


@dataclass(frozen=True, slots=True)
class Pool:
    """How many workers, and what each may use: CPU threads, GPUs (0 or 1)."""

    workers: int
    threads: int
    gpus: int


def has_gpus() -> bool:
    """Whether any node of the cluster has a GPU."""
    return bool(ray.cluster_resources().get("GPU", 0) >= 1)


def choose_pool(*, workers: int | None, threads: int | None, on_gpu: bool) -> Pool:
    """Fill in what the user left open from what the cluster has: one worker per GPU, else one per two CPU cores of a
    machine, or one per core where no machine has two.

    A worker must fit beside each GPU: cores of machines that have none count for nothing, and the machine with the
    fewest per GPU sets the share. A cluster that starts machines on demand may have none yet: then one worker of
    CORES_PER_WORKER cores. Raises ValueError where one machine is all there is, and too small for a worker, which would
    be waited for without end.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(has.get("CPU", 0)) for has in machines]
    if threads and 0 < sum(cores) < threads and not os.environ.get("RAY_ADDRESS"):
        raise ValueError(f"--threads {threads}: this machine has {sum(cores)} CPU cores")
    if on_gpu:
        gpus = int(sum(has.get("GPU", 0) for has in machines))
        shares = (int(has.get("CPU", 0) // has["GPU"]) for has in machines if has.get("GPU", 0) >= 1)
        share = max(1, min(shares, default=CORES_PER_WORKER))
        return Pool(workers or max(1, gpus), threads or share, 1)
    threads = threads or min(CORES_PER_WORKER, max(cores, default=0) or CORES_PER_WORKER)
    return Pool(workers or max(1, sum(each // threads for each in cores)), threads, 0)


def run_shards(job: ShardJob, tasks: Iterable[ShardTask], pool: Pool) -> Iterator[ShardSummary]:
    """Work on shards in a pool of actors, one shard per row; summaries in the order in which shards finish. Shards are
    taken from their source as they are worked on.

    A worker that dies is replaced and its shard repeated, within limits. Raises WorkerError when a worker tells that it
    cannot go on, or the limits are reached.
    """
    for row in map_actors(ShardWorker, job, map(asdict, tasks), pool):
        yield ShardSummary(**row)


def map_actors(worker: type, job: object, rows: Iterable[dict[str, Any]], pool: Pool) -> Iterator[dict[str, Any]]:
    """Apply a pool of `worker(job)` to rows, one row at a time each; their answers in the order in which they come.
    Rows are taken from their source as they are worked on.

    A worker that dies is replaced and its row repeated, within limits (`actor_pool`). Raises WorkerError when an answer
    has a `failure`, or the limits are reached.
    """
    coming = iter(rows)
    first = list(islice(coming, pool.workers))
    actor: Any = ray.remote(num_cpus=pool.threads, num_gpus=pool.gpus, scheduling_strategy="SPREAD")(worker)
    for answer in ActorPool(lambda: actor.remote(job), len(first)).map(chain(first, coming)):
        if "failure" in answer:
            raise WorkerError(answer["failure"])
        yield answer


def map_chunks(function: Callable[[pa.Table], pa.Table], chunks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Apply a function to tables on the cluster, one task each; its answers as they come.

    No more chunks are taken from the iterator than keep the cluster busy. A chunk that is lost with its worker is done
    again, within limits. Raises WorkerError when the function raises OSError or ValueError, or the limits are reached.
    """

    def attempt(chunk: pa.Table) -> pa.Table | str:
        try:
            return function(chunk)
        except (OSError, ValueError) as error:
            return one_line(error)

    # Ray itself would begin a task again and again, without an end where memory is short, and say so each time.
    task = ray.remote(max_retries=0)(attempt)
    waiting: dict[ray.ObjectRef[Any], _Chunk] = {}
    for held in map(ray.put, chunks):
        waiting[task.remote(held)] = _Chunk(held)
        if len(waiting) >= max(CHUNKS_AHEAD, 2 * int(ray.cluster_resources().get("CPU", 1))):
            yield _first_answer(task, waiting)
    while waiting:
        yield _first_answer(task, waiting)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A piece of work for a task, which Ray holds, and how often it has been lost with its worker."""

    table: ray.ObjectRef[Any]
    lost: int = 0


def _first_answer(task: Any, waiting: dict[ray.ObjectRef[Any], _Chunk]) -> pa.Table:
    """The answer of whichever task ends first, which leaves `waiting`; a lost one is begun anew. Raises WorkerError for
    one that failed."""
    while True:
        (done,), _ = ray.wait([*waiting], num_returns=1)
        chunk = waiting.pop(done)
        try:
            answer = ray.get(done)
        except RayError as error:
            if isinstance(error, RayTaskError) or chunk.lost == ROW_RETRIES:
                raise given_up(error) from error
            waiting[task.remote(chunk.table)] = _Chunk(chunk.table, chunk.lost + 1)
        else:
            if isinstance(answer, str):
                raise WorkerError(answer)
            return answer


@contextmanager
def _answering_sigterm_as_before() -> Iterator[None]:
    """Ray begins with a handler of its own, which ends a process with status 15 and no word, or not at all. It answers
    natively, too, and aborts one that has not left after three seconds (status 134)."""
    before, theirs = signal.getsignal(signal.SIGTERM), ray_utils.set_sigterm_handler
    if not callable(before) or current_thread() is not main_thread():
        yield
        return
    ray_utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = theirs
        signal.signal(signal.SIGTERM, before)


def _join_cluster(quiet: dict[str, Any]) -> None:
    address = os.environ["RAY_ADDRESS"]
    _require_answer(address)
    _keep_native_log_off_the_terminal()
    try:
        ray.init(**quiet)
    except ValueError as error:
        raise ValueError(f"RAY_ADDRESS={address} is no address of a Ray cluster, such as 10.0.0.1:6379") from error
    except (ConnectionError, AuthenticationError) as error:
        hint = "if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
        raise ConnectionError(f"cannot join the Ray cluster at RAY_ADDRESS={address}; {hint}") from error


def _require_answer(address: str) -> None:
    """Raises ConnectionError when nobody listens at HOST:PORT: Ray asks for a quarter of an hour and says nothing."""
    host, _, port = address.rpartition(":")
    if "/" in address or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster answers at RAY_ADDRESS={address} ({error.strerror or error})") from error


def _start_here(quiet: dict[str, Any]) -> None:
    folder = _folder_of_ray()
    _keep_native_log_off_the_terminal()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray would keep one in the home, for all to read
    try:
        with _for_this_machine_alone():
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    except Exception as error:  # Ray raises a bare Exception when its processes do not come up in time
        reason = str(error).partition(". ")[0]
        where = f"its files lie in {folder}; TMPDIR names another folder, whose name has to be short"
        raise OSError(
            f"Ray did not start on this machine ({reason}); the same command tries again ({where})"
        ) from error


@contextmanager
def _for_this_machine_alone() -> Iterator[None]:
    """Ray listens on every address of a Linux machine. Where it knows no clusters, which is so on macOS unless a
    variable says otherwise, it listens on 127.0.0.1; its processes get the variable, this one has read it already."""
    variable, known = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    before = os.environ.get(variable)
    os.environ[variable], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = known
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before


def _folder_of_ray() -> str:
    """Where Ray keeps its files. Raises OSError when nothing can be written there: Ray would wait for itself, and not
    say why it does."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    own = Path(folder, "ray")  # of whoever came first, open to all
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=own if own.is_dir() else folder) as file:
            file.write(bytes(LEAST_ROOM))
    except OSError as error:
        why = f"{os.strerror(error.errno or 0)} (Ray's files lie there; TMPDIR names another folder)"
        raise OSError(error.errno, why, folder) from error
    return folder


def _keep_native_log_off_the_terminal() -> None:
    """Ray's C++ core repeats its log on descriptor 2 at any level, and DuckDB's lists its own objects there that Ray
    holds at the end, in forty lines: that goes nowhere, sys.stderr stays the terminal."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
