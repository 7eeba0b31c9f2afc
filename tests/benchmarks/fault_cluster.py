"""Ray clusters for the fault harness: one node, or a head and two nodes in network namespaces behind a bridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray

from tests.benchmarks.record import ROOT
from tests.workflows.conftest import free_ports

RAY = Path(sys.executable).parent / "ray"
BRIDGE, NETWORK = "samfault0", "10.213.7"
NODES = (2, 3)
_SETTINGS = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""A node that is cut off counts as dead after two seconds instead of a minute."""


def can_make_namespaces() -> bool:
    """Whether this process may make networks: a superuser with iproute2."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


@dataclass(slots=True)
class Cluster:
    """A running cluster that this process has joined. `host` is where a server must listen to be seen by all nodes."""

    host: str
    environment: dict[str, str]
    head: int
    port: int

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start_node(self, number: int) -> None:
        """A node in its namespace; returns once the cluster knows it."""
        command = (
            f"ip netns exec {namespace(number)} {RAY} start --address={self.address} --num-cpus=1 "
            f"--node-ip-address={NETWORK}.{number} --object-store-memory=100000000"
        )
        wanted = self._alive() + 1
        _run(command, env=self.environment)
        wait_until(lambda: self._alive() >= wanted)

    def replace_node(self, number: int) -> None:
        """A new node in the place of one that was lost, once its death is known."""
        kill_node(number)
        lost = f"{NETWORK}.{number}"
        wait_until(lambda: not any(node["Alive"] and node["NodeManagerAddress"] == lost for node in ray.nodes()))
        self.start_node(number)

    def workers(self) -> list[psutil.Process]:
        """The processes that work on shards."""
        mine = psutil.Process(self.head).children(recursive=True)
        inside = [process for number in NODES for process in _inside(number)]
        return [process for process in [*mine, *inside] if "ShardWorker" in _title(process)]

    def _alive(self) -> int:
        return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())


@contextmanager
def one_node(cores: int = 2) -> Iterator[Cluster]:
    """A head that works itself."""
    with _head("127.0.0.1", cores) as cluster:
        yield cluster


@contextmanager
def namespaces() -> Iterator[Cluster]:
    """A head that does not work, and two nodes that do; needs `can_make_namespaces`."""
    _remove_network()
    try:
        _make_network()
        with _head(f"{NETWORK}.1", 0) as cluster:
            for number in NODES:
                cluster.start_node(number)
            yield cluster
    finally:
        _remove_network()


def kill_node(number: int) -> None:
    """SIGKILL to everything in a namespace, as when a machine loses its power."""
    for process in _inside(number):
        kill(process)


def cut_off(number: int) -> None:
    """Take the link of a namespace down: its processes go on and reach nobody."""
    _run(f"ip link set {BRIDGE}v{number} down")


def reconnect(number: int) -> None:
    """Bring the link up again."""
    _run(f"ip link set {BRIDGE}v{number} up")


def namespace(number: int) -> str:
    return f"{BRIDGE}n{number}"


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Poll; raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the harness waited for did not happen")
        time.sleep(0.01)


@contextmanager
def _head(host: str, cores: int) -> Iterator[Cluster]:
    port, client, agent = free_ports(3)
    folder = Path(tempfile.mkdtemp(prefix="rf", dir="/tmp"))
    environment = os.environ | _SETTINGS | {"PYTHONPATH": str(ROOT), "PATH": f"{RAY.parent}:{os.environ['PATH']}"}
    command = (
        f"{RAY} start --head --block --num-cpus={cores} --node-ip-address={host} --port={port} "
        f"--ray-client-server-port={client} --dashboard-agent-listen-port={agent} --object-store-memory=200000000 "
        f"--include-dashboard=false --temp-dir={folder}"
    )
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(command.split(), env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: "Ray runtime started" in (folder / "head.log").read_text())
        cluster = Cluster(host, environment, head.pid, port)
        os.environ["RAY_ADDRESS"] = cluster.address
        ray.init(address=cluster.address, log_to_driver=False, _node_ip_address=host)
        yield cluster
    finally:
        ray.shutdown()
        os.environ.pop("RAY_ADDRESS", None)
        children = psutil.Process(head.pid).children(recursive=True)
        for process in [*children, psutil.Process(head.pid)]:
            kill(process)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _make_network() -> None:
    _run(f"ip link add {BRIDGE} type bridge")
    _run(f"ip addr add {NETWORK}.1/24 dev {BRIDGE}")
    _run(f"ip link set {BRIDGE} up")
    for number in NODES:
        inner, outer = f"{BRIDGE}w{number}", f"{BRIDGE}v{number}"
        _run(f"ip netns add {namespace(number)}")
        _run(f"ip link add {outer} type veth peer name {inner}")
        _run(f"ip link set {inner} netns {namespace(number)}")
        _run(f"ip link set {outer} master {BRIDGE} up")
        inside = f"ip netns exec {namespace(number)} ip"
        _run(f"{inside} addr add {NETWORK}.{number}/24 dev {inner}")
        _run(f"{inside} link set {inner} up")
        _run(f"{inside} link set lo up")


def _remove_network() -> None:
    for number in NODES:
        kill_node(number)
        subprocess.run(["ip", "netns", "del", namespace(number)], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)


def _inside(number: int) -> list[psutil.Process]:
    listing = subprocess.run(["ip", "netns", "pids", namespace(number)], capture_output=True, text=True, check=False)
    return [psutil.Process(int(pid)) for pid in listing.stdout.split() if psutil.pid_exists(int(pid))]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill(process: psutil.Process) -> bool:
    """SIGKILL; whether there was such a process."""
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


def _run(command: str, env: dict[str, str] | None = None) -> None:
    """Run a command; RuntimeError with what it said when it fails."""
    done = subprocess.run(command.split(), env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
