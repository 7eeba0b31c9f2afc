"""Two servers at one task: the second one says that there is a first, for both would hand out the same images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.layout import serving_key
from schemas.tables import Stage
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.presence import serving
from workflows.processes import identity
from workflows.storage import LocalStore

KEY = serving_key(Stage.AUDIT, 3)


def left_by(store: LocalStore, who: dict[str, object]) -> None:
    """The mark of a server."""
    store.put(KEY, json.dumps({"who": who, "since": "2026-01-02 03:04"}).encode())


def said(store: LocalStore, capfd: pytest.CaptureFixture[str], *, round: int | None = 3) -> str:
    """What a server tells when it starts; it leaves no mark when it ends."""
    with serving(store, Stage.AUDIT, round):
        assert store.exists(serving_key(Stage.AUDIT, round))
    assert not store.exists(serving_key(Stage.AUDIT, round))
    return capfd.readouterr().err


def test_another_server_of_the_same_task_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store, living = LocalStore(tmp_path), identity(os.getppid())
    assert said(store, capfd) == ""
    for who in (living, living | {"host": "elsewhere"}):
        left_by(store, who)
        assert said(store, capfd, round=None) == said(store, capfd, round=4) == ""
        line = said(store, capfd)
        named = f"sam-engine: process {living['process']} on {who['host']} serves this stage and round since 2026-01-02"
        assert line.startswith(named)
        assert line.count("\n") == 1


def test_one_that_was_killed_on_this_machine_is_passed_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = LocalStore(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as other:
        gone = identity(other.pid)
        other.kill()
    left_by(store, gone)
    assert said(store, capfd) == ""


@pytest.mark.parametrize("left", [b"", b'{"who": {"ho', b"[]", b'{"who": 3}', b"\xff"])
def test_a_mark_that_is_cut_off_is_passed_over(tmp_path: Path, capfd: pytest.CaptureFixture[str], left: bytes) -> None:
    store = LocalStore(tmp_path)
    store.put(KEY, left)
    assert said(store, capfd) == ""


def test_the_mark_of_a_later_server_stays(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with serving(store, Stage.AUDIT, 3):
        left_by(store, identity(os.getppid()))
    assert store.exists(KEY)


@pytest.mark.slow
def test_a_second_process_tells_of_the_first(config: AnnotateConfig) -> None:
    program = [sys.executable, "-m", "workflows.cli", "annotate", config.dataset, "--model", config.model]
    command = [*program, "--port", "0", "--no-browser-decoder", "--threads", "1"]
    told = []
    for _ in range(2):
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert any(line.startswith("open ") for line in iter(server.stdout.readline, ""))
        told.append(server)
    first, second = told
    for server in reversed(told):
        server.send_signal(signal.SIGTERM)
    said = [server.communicate()[1] for server in told]
    assert f"process {first.pid} on " in said[1]
    assert "serves this stage" not in said[0]
    assert second.returncode == first.returncode == 143
