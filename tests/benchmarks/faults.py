"""Many short runs, each disturbed at a random moment; then the same command again, and a comparison with one in peace.

    python -m tests.benchmarks.faults --kills 100 --json tests/benchmarks/results/faults.json [--seed 1] [--kinds ...]

The generator is a cheap one; everything else is the real command on a real Ray cluster, with the data set in a folder
or on an S3 server over HTTP. Losing a node takes network namespaces: a superuser and iproute2.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import boto3
import torch
import tyro
from moto.server import ThreadedMotoServer

from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from tests.benchmarks import fault_cluster
from tests.benchmarks.fault_cluster import Cluster, can_make_namespaces
from tests.benchmarks.fault_findings import Findings, examine, reference_rows
from tests.benchmarks.record import environment_fields, write_json
from tests.workflows.cheap_engine import VARIABLE as SABOTAGE
from tests.workflows.cheap_engine import Sabotage, main, sabotage_text
from tests.workflows.conftest import save_photos
from tests.workflows.fault_proxy import FaultProxy, fault_proxy
from tests.workflows.store_troubles import QUICK_VARIABLE, TROUBLES
from workflows.patience import VARIABLE as PATIENCE

IMAGES = 16
ON_ONE_NODE = {"driver": 3, "worker": 3, "between_files": 2, "in_write": 3, "store_errors": 3, "rivals": 2}
ON_NODES = {"node_killed": 1, "node_cut": 1}
"""Kinds, and how often each comes up: nodes take longest to replace."""
MOST_COMMANDS = 8
_DRIVERS = multiprocessing.get_context("forkserver")
_DRIVERS.set_forkserver_preload(["tests.benchmarks.faults", "workflows.ray_session", "workflows.generate"])


@dataclass(frozen=True, slots=True)
class Options:
    """Disturb runs and count what is wrong afterwards."""

    kills: int = 100
    """How many disturbed runs."""
    json: Path | None = None
    """Where the record goes."""
    seed: int = 0
    """Of kinds, moments and places."""
    minutes: float = 600.0
    """Begin no further run after that time; the record says how many there were."""
    kinds: tuple[str, ...] = ()
    """Among driver, worker, between_files, in_write, store_errors, rivals, node_killed, node_cut; all that can be done
    here when not given."""


@dataclass(slots=True)
class Bench:
    """What all runs share. `chance` decides everything that is random."""

    folder: Path
    cluster: Cluster
    proxy: FaultProxy
    chance: random.Random
    workers: int
    log: Any
    statuses: Counter[int] = field(default_factory=Counter)

    def command(self, dataset: str) -> list[str]:
        fixed = f"--shard-size 1 --threads 1 --device cpu --workers {self.workers}".split()
        return [
            "generate",
            str(self.folder / "photos"),
            dataset,
            "--model",
            str(self.folder / "model.safetensors"),
            *fixed,
        ]

    def here(self, dataset: str) -> int:
        """Run the command in this process; its exit status."""
        with contextlib.redirect_stdout(self.log), contextlib.redirect_stderr(self.log):
            status = main(self.command(dataset))
        self.statuses[status] += 1
        return status

    def apart(self, dataset: str) -> BaseProcess:
        """Start the command in a process of its own, forked from one that has read the program's modules already."""
        environment = self.cluster.environment | {"RAY_ADDRESS": self.cluster.address}
        driver = _DRIVERS.Process(target=_drive, args=(self.command(dataset), environment, self.log.name))
        driver.start()
        return driver

    def finish(self, dataset: str) -> int:
        """The same command again until it is done; how often that took. RuntimeError when it never is."""
        for count in range(1, MOST_COMMANDS):
            if self.here(dataset) == 0:
                return count
        raise RuntimeError(f"{dataset}: not done after {MOST_COMMANDS} commands")


def _drive(command: list[str], environment: dict[str, str], log: str) -> None:
    """The driver's process."""
    os.environ.update(environment)
    with Path(log).open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        sys.exit(main(command))


@dataclass(frozen=True, slots=True)
class Run:
    """One disturbed run: `commands` after the first until it was done."""

    kind: str
    place: str
    struck_at: int
    commands: int
    seconds: float
    findings: Findings


def disturbed_run(bench: Bench, kind: str, dataset: str, expected: list[Any]) -> Run | None:
    """Disturb, repeat, compare; None when the run was over before it was struck."""
    start = time.monotonic()
    moment = bench.chance.randrange(-1, IMAGES - 4)
    struck_at = _DISTURB[kind](bench, dataset, moment)
    if struck_at is None:
        return None
    bench.proxy.faults = []
    os.environ.pop(SABOTAGE, None)
    commands = bench.finish(dataset)
    place = "s3" if dataset.startswith("s3") else "folder"
    findings = examine(dataset, IMAGES, expected)
    return Run(kind, place, struck_at, commands, round(time.monotonic() - start, 2), findings)


def _driver(bench: Bench, dataset: str, moment: int) -> int | None:
    """kill -9 of the driver."""
    driver = bench.apart(dataset)
    struck_at = _await(bench, dataset, moment, lambda: not driver.is_alive())
    driver.kill()
    driver.join()
    return struck_at


def _rivals(bench: Bench, dataset: str, moment: int) -> int | None:
    """A second driver on the same run, and one of the two killed."""
    drivers = [bench.apart(dataset) for _ in range(2)]
    struck_at = _await(bench, dataset, moment, lambda: not all(driver.is_alive() for driver in drivers))
    drivers[bench.chance.randrange(2)].kill()
    for driver in drivers:
        driver.join()
    return struck_at


def _worker(bench: Bench, dataset: str, moment: int) -> int | None:
    """kill -9 of a process that holds a model."""

    def strike() -> bool:
        found = bench.cluster.workers()
        return bool(found) and fault_cluster.kill(bench.chance.choice(found))

    return _strike_while_running(bench, dataset, moment, strike)


def _store_errors(bench: Bench, dataset: str, moment: int) -> int | None:
    """A few faults of the store, some longer than its patience."""

    def strike() -> bool:
        for trouble in bench.chance.sample(TROUBLES, 2):
            bench.proxy.faults += trouble.faults(bench.chance.randint(1, 8))
        return True

    return _strike_while_running(bench, dataset, moment, strike)


def _by_itself(prefix: str, *, halfway: bool) -> Callable[[Bench, str, int], int | None]:
    """A worker that dies by its own hand at an exact place of a write."""

    def disturb(bench: Bench, dataset: str, moment: int) -> int | None:
        done = bench.folder / f"struck-{time.monotonic_ns()}"
        chosen = prefix or bench.chance.choice(("masks/", "outcomes/", "in_flight/"))
        after = max(0, moment) // bench.workers
        os.environ[SABOTAGE] = sabotage_text(Sabotage(chosen, after, halfway, str(done)))
        bench.here(dataset)
        return moment if done.exists() else None

    return disturb


def _node(strike: Callable[[int], None], repair: Callable[[int], None]) -> Callable[[Bench, str, int], int | None]:
    """A node that is lost; afterwards another takes its place."""

    def disturb(bench: Bench, dataset: str, moment: int) -> int | None:
        number = bench.chance.choice(fault_cluster.NODES)

        def strike_it() -> bool:
            strike(number)
            return True

        struck_at = _strike_while_running(bench, dataset, moment, strike_it)
        repair(number)
        bench.cluster.replace_node(number)
        return struck_at

    return disturb


_DISTURB: dict[str, Callable[[Bench, str, int], int | None]] = {
    "driver": _driver,
    "worker": _worker,
    "between_files": _by_itself("outcomes/", halfway=False),
    "in_write": _by_itself("", halfway=True),
    "store_errors": _store_errors,
    "rivals": _rivals,
    "node_killed": _node(fault_cluster.kill_node, lambda number: None),
    "node_cut": _node(fault_cluster.cut_off, fault_cluster.reconnect),
}


def _strike_while_running(bench: Bench, dataset: str, moment: int, strike: Callable[[], bool]) -> int | None:
    """Run the command here and strike from a thread; how many shards were committed then, None when it was too late."""
    over = threading.Event()
    struck: list[int] = []

    def wait_and_strike() -> None:
        found = _await(bench, dataset, moment, over.is_set)
        while found is not None and not over.is_set() and not struck:
            if strike():
                struck.append(found)
            time.sleep(0.02)

    thread = threading.Thread(target=wait_and_strike)
    thread.start()
    bench.here(dataset)
    over.set()
    thread.join()
    return struck[0] if struck else None


def _await(bench: Bench, dataset: str, moment: int, over: Callable[[], bool]) -> int | None:
    """Wait until more than `moment` shards are committed, or a random while when that is -1; how many there are."""
    if moment < 0:
        time.sleep(bench.chance.uniform(0, 3))
        return None if over() else 0
    while not over():
        if (count := _committed(bench, dataset)) > moment:
            time.sleep(bench.chance.uniform(0, 0.04))
            return count
        time.sleep(0.02)
    return None


def _committed(bench: Bench, dataset: str) -> int:
    """Counted past the proxy, whose faults are for the run."""
    if not dataset.startswith("s3://"):
        return len(list(Path(dataset).glob("outcomes/*/shard-*.parquet")))
    bucket, _, prefix = dataset.removeprefix("s3://").partition("/")
    listing = boto3.client("s3", endpoint_url=bench.proxy.upstream)
    return int(listing.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/outcomes/").get("KeyCount", 0))


@contextmanager
def bench_on(make_cluster: Callable[[], Any], host: str, chance: random.Random, workers: int) -> Iterator[Bench]:
    """A cluster, an S3 server behind a proxy that all of it uses, photographs and a model."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        save_photos(folder / "photos", IMAGES)
        torch.manual_seed(0)
        save_model(Sam(vit_test()), folder / "model.safetensors")
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        stack.callback(server.stop)
        upstream = "http://{}:{}".format(*server.get_host_and_port())
        address, proxy = stack.enter_context(fault_proxy(upstream, host="0.0.0.0"))
        os.environ |= {
            "AWS_ENDPOINT_URL": address.replace("0.0.0.0", host),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            PATIENCE: QUICK_VARIABLE,
        }
        boto3.client("s3", endpoint_url=upstream).create_bucket(Bucket="faults")
        cluster = stack.enter_context(make_cluster())
        log = stack.enter_context((folder / "commands.log").open("w"))
        yield Bench(folder, cluster, proxy, chance, workers, log)


def disturb(bench: Bench, kinds: list[str], deadline: float) -> list[Run]:
    """Every kind once per entry, until the deadline; a run that ended too early is done again."""
    peace = str(bench.folder / "peace")
    if bench.here(peace):
        raise RuntimeError(f"the undisturbed run failed: {(bench.folder / 'commands.log').read_text()[-2000:]}")
    expected = reference_rows(peace)
    on_s3 = [kind == "store_errors" or bench.chance.random() < 0.5 for kind in kinds]  # whatever the runs draw
    runs: list[Run] = []
    attempt = 0
    while len(runs) < len(kinds) and time.monotonic() < deadline:
        attempt += 1
        kind = kinds[len(runs)]
        dataset = f"s3://faults/{attempt}" if on_s3[len(runs)] else str(bench.folder / f"data-{attempt}")
        run = disturbed_run(bench, kind, dataset, expected)
        if run:
            runs.append(run)
            print(f"{len(runs)}/{len(kinds)} {kind}: {run.commands} more, {run.seconds} s, {run.findings}", flush=True)
    return runs


def choose_kinds(options: Options) -> list[str]:
    """The kind of every run. Raises ValueError for one that is unknown or cannot be done here."""
    possible = ON_ONE_NODE | (ON_NODES if can_make_namespaces() else {})
    if unknown := set(options.kinds) - set(possible):
        raise ValueError(f"cannot disturb by {', '.join(sorted(unknown))} here; possible: {', '.join(possible)}")
    wanted = options.kinds or tuple(kind for turn in range(3) for kind, share in possible.items() if turn < share)
    kinds = [wanted[number % len(wanted)] for number in range(options.kills)]
    random.Random(options.seed).shuffle(kinds)
    return kinds


def measure(options: Options) -> list[Run]:
    """All disturbed runs, those that lose nodes on a cluster of their own."""
    kinds, chance = choose_kinds(options), random.Random(options.seed)
    deadline = time.monotonic() + 60 * options.minutes
    runs: list[Run] = []
    if several := [kind for kind in kinds if kind in ON_NODES]:
        with bench_on(fault_cluster.namespaces, f"{fault_cluster.NETWORK}.1", chance, 2) as bench:
            runs += disturb(bench, several, deadline)
    if single := [kind for kind in kinds if kind in ON_ONE_NODE]:
        with bench_on(fault_cluster.one_node, "127.0.0.1", chance, 1) as bench:
            runs += disturb(bench, single, deadline)
    return runs


def summary(options: Options, runs: list[Run], seconds: float) -> dict[str, Any]:
    """The record: sums over all runs at the top, then by kind, then every run."""
    names = list(asdict(Findings()))
    by_kind = {
        kind: {
            "runs": len(chosen),
            "on_s3": sum(run.place == "s3" for run in chosen),
            "finished_by_itself": sum(run.commands == 1 for run in chosen),
        }
        | {name: sum(getattr(run.findings, name) for run in chosen) for name in names}
        for kind in sorted({run.kind for run in runs})
        if (chosen := [run for run in runs if run.kind == kind])
    }
    return {
        "runs": len(runs),
        "images_per_run": IMAGES,
        **{name: sum(getattr(run.findings, name) for run in runs) for name in names},
        "seed": options.seed,
        "seconds": seconds,
        "kinds": by_kind,
        "each": [asdict(run) for run in runs],
        "environment": environment_fields(),
    }


def run_harness(options: Options) -> dict[str, Any]:
    """Measure and, if asked, write the record."""
    start = time.monotonic()
    record = summary(options, measure(options), 0.0)
    record["seconds"] = round(time.monotonic() - start, 1)
    if options.json:
        write_json(options.json, record)
    return record


def program() -> int:
    """The command; 1 when anything was found wrong."""
    try:
        record = run_harness(tyro.cli(Options))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    wrong = {name: record[name] for name in asdict(Findings())}
    print(f"{record['runs']} disturbed runs: " + ", ".join(f"{name} {count}" for name, count in wrong.items()))
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(program())
