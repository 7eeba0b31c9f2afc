"""Whole runs against a store that fails in each of many ways: unnoticed after retries, or one line and a clean resume.

    python -m tests.benchmarks.store_faults --json tests/benchmarks/results/store_faults.json

Faults over HTTP come out of a proxy in front of an S3 server. A full and a read-only disk are small mounted disks,
which takes a superuser.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from tests.benchmarks import fault_cluster
from tests.benchmarks.fault_findings import Findings, Row, examine, reference_rows
from tests.benchmarks.faults import IMAGES, Bench, bench_on
from tests.benchmarks.record import environment_fields, write_json
from tests.workflows.cheap_engine import main
from tests.workflows.fault_proxy import closed_port, deaf_port
from tests.workflows.store_troubles import TROUBLES, Trouble

ENDPOINT = "AWS_ENDPOINT_URL"


@dataclass(frozen=True, slots=True)
class Options:
    """Measure every fault."""

    json: Path | None = None
    """Where the record goes."""


@dataclass(frozen=True, slots=True)
class Case:
    """A fault for as long as the context stands; how the command must end under it."""

    name: str
    dataset: str
    fault: Callable[[Bench], AbstractContextManager[None]]
    line: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a case ended. `line` is what the command said when it stopped, `right` whether all is as it must be."""

    fault: str
    status: int
    line: str
    resumed: bool
    seconds: float
    findings: Findings
    right: bool


def cases(folder: Path) -> list[Case]:
    """Over HTTP in the middle of a run, at an address where nobody is, and on disks."""
    over_http = [_over_http(number, trouble) for number, trouble in enumerate(TROUBLES)]
    nobody = [
        Case("connect timeout", "s3://faults/deaf", lambda _: _elsewhere(deaf_port()), "ConnectTimeoutError in 4"),
        Case("connection refused", "s3://faults/closed", lambda _: _elsewhere(closed_port()), "EndpointConnection"),
    ]
    disk = folder / "disk"
    disks = [
        Case("disk full (ENOSPC)", f"{disk}/data", lambda _: _full(disk), "No space left on device"),
        Case("read-only target", f"{disk}/other", lambda _: _read_only(disk), "Read-only file system"),
    ]
    return over_http + nobody + (disks if os.geteuid() == 0 else [])


def end_of(case: Case, bench: Bench, expected: list[Row]) -> Ending:
    """Run the command under the fault, then without it if it stopped."""
    start = time.monotonic()
    said = io.StringIO()
    with case.fault(bench), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(bench.command(case.dataset))
    lines = [line for line in said.getvalue().splitlines() if line.startswith("sam-engine: ")]
    resumed = status != 0 and bench.here(case.dataset) == 0
    findings = examine(case.dataset, IMAGES, expected)
    clear = len(lines) == 1 and "Traceback" not in said.getvalue() and bool(re.search(case.line, lines[0]))
    right = (clear and resumed and status == 2) if case.line else status == 0
    line = lines[0].replace(str(bench.folder), "FOLDER") if lines else ""
    line = re.sub(r"127\.0\.0\.1:\d+", "HOST", line)
    right = right and findings == Findings()
    return Ending(case.name, status, line, resumed, round(time.monotonic() - start, 1), findings, right)


def table(endings: list[Ending]) -> list[str]:
    """The cases as a table in Markdown."""
    rows = [
        f"| {end.fault} | {'success after retries' if end.status == 0 else 'one line, then a clean resume'} "
        f"| {end.line.removeprefix('sam-engine: ')} |"
        for end in endings
    ]
    return ["| fault | ends in | line |", "|---|---|---|", *rows]


def measure() -> list[Ending]:
    """All cases, one after the other, on one cluster."""
    with bench_on(fault_cluster.one_node, "127.0.0.1", random.Random(0), 2) as bench, _small_disk(bench.folder):
        peace = str(bench.folder / "peace")
        if bench.here(peace):
            raise RuntimeError("the undisturbed run failed")
        expected = reference_rows(peace)
        endings = []
        for case in cases(bench.folder):
            endings.append(end_of(case, bench, expected))
            print(endings[-1], flush=True)
        return endings


def record(endings: list[Ending]) -> dict[str, Any]:
    return {
        "faults": len(endings),
        "right": sum(end.right for end in endings),
        "each": [asdict(end) for end in endings],
        "table": table(endings),
        "environment": environment_fields(),
    }


def program() -> int:
    options = tyro.cli(Options)
    found = record(measure())
    if options.json:
        write_json(options.json, found)
    print("\n".join(found["table"]))
    print(f"{found['right']} of {found['faults']} end as they must")
    return int(found["right"] < found["faults"])


def _over_http(number: int, trouble: Trouble) -> Case:
    """From the middle of the run on; what passes goes away after two requests, what does not is for good."""
    path = "masks" if trouble.fault.method != "GET" else "shard-00000003"

    @contextmanager
    def fault(bench: Bench) -> Iterator[None]:
        bench.proxy.faults = trouble.faults(2, path=path) if trouble.passes else trouble.faults(path=path)
        yield
        missed = trouble.passes and any(fault.times for fault in bench.proxy.faults)
        bench.proxy.faults = []
        if missed:
            raise RuntimeError(f"{trouble.name} met no request")

    return Case(trouble.name, f"s3://faults/trouble-{number}", fault, "" if trouble.passes else trouble.line)


@contextmanager
def _elsewhere(port: AbstractContextManager[str]) -> Iterator[None]:
    """The driver's endpoint is an address where nobody answers."""
    usual = os.environ[ENDPOINT]
    with port as address:
        os.environ[ENDPOINT] = address
        yield
        os.environ[ENDPOINT] = usual


@contextmanager
def _full(disk: Path) -> Iterator[None]:
    """Ballast leaves room for the plan and a few shards."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes((4 << 20) - (160 << 10)))
    yield
    ballast.unlink()


@contextmanager
def _read_only(disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A disk of 4 MB at FOLDER/disk, where this process may mount one."""
    if os.geteuid():
        yield
        return
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


if __name__ == "__main__":
    sys.exit(program())
