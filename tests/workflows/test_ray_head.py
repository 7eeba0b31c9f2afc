"""A head that is gone, as its machine is, or its process."""

from __future__ import annotations

import errno
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import psutil
import pytest

from tests.workflows.conftest import save_photos
from tests.workflows.fault_proxy import closed_port
from tests.workflows.test_kill import start
from workflows.ray_head import answers, wait_until_silent, watch_head

IMPATIENT = """
import sys
from workflows import ray_head
from workflows.cli import main

ray_head._SHARE = 0.25
sys.exit(main(sys.argv[1:]))
"""
"""The command, which gives its head up long before Ray does, on a busy machine too."""


def test_only_a_head_that_does_not_come_back_is_gone() -> None:
    with closed_port() as free:
        address = free.removeprefix("http://")
        assert not answers(address, 1.0)
    host, _, port = address.partition(":")
    with ThreadPoolExecutor(1) as thread:
        with socket.create_server((host, int(port)), backlog=128) as server:
            silent = thread.submit(wait_until_silent, address, 0.2, pause=0.01)
            for _ in range(40):  # longer than it would wait
                server.accept()[0].close()
            assert not silent.done()
        silent.result(60)
    assert not answers(address, 1.0)


def test_what_this_process_lacks_says_nothing_of_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("workflows.ray_head.socket.create_connection", connect)
    assert answers("127.0.0.1:6379", 1.0)


def test_a_head_is_given_up_before_ray_does(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, float]] = []
    monkeypatch.setattr("workflows.ray_head.Thread", lambda **how: Mock(start=lambda: begun.append(how["args"])))
    monkeypatch.setattr("workflows.ray_head.answers", lambda *_: True)
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(gcs_address="10.0.0.1:6379"))
    monkeypatch.delenv("RAY_gcs_rpc_server_reconnect_timeout_s", raising=False)
    watch_head()
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "16")
    watch_head()
    assert begun == [("10.0.0.1:6379", 45.0), ("10.0.0.1:6379", 12.0)]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_command_whose_head_is_gone_says_so(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray ended it after a minute, without a word and with the status of a run that is done but for error rows."""
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "16")
    save_photos(tmp_path / "photos", 1)
    command = [sys.executable, "-c", IMPATIENT]
    driver = start(tmp_path / "photos", tmp_path / "masks", tiny_checkpoint, command=command)
    others: list[psutil.Process] = []
    try:
        assert driver.stderr is not None
        before = list(takewhile(lambda line: not line.startswith("masks: 0 of"), driver.stderr))
        others = psutil.Process(driver.pid).children(recursive=True)
        assert [each.kill() for each in others if each.name() == "gcs_server"], before
        *_, last = driver.stderr
        status = driver.wait()
    finally:
        for process in [*others, driver]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(others, timeout=60)
    assert status == 2
    assert last.startswith("sam-engine: the Ray cluster at 127.0.0.1:")
    assert last.endswith(" does not answer any more; the same command goes on where this one stopped\n")
