"""The server as a process of its own, which is asked to end while somebody is cut off in the middle of a save."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from workflows.annotate.commands import AnnotateConfig

_SERVE = """
import sys
from workflows.annotate import serve
from workflows.cli import main
serve.LEAVING_SECONDS = float(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""
_HALF = b"""PUT /api/sessions/s/parts/1 HTTP/1.1\r
Host: 127.0.0.1\r
Content-Type: application/json\r
Content-Length: 1000\r
Expect: 100-continue\r
\r
"""


@contextmanager
def server_in_the_middle_of_a_save(config: AnnotateConfig, *, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A server that waits for the rest of a save, and `seconds` for it when it is to end."""
    command = [sys.executable, "-c", _SERVE, str(seconds), "annotate", config.dataset, "--model", config.model]
    command += ["--port", "0", "--no-browser-decoder", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = next(line for line in server.stdout if line.startswith("open ")).split()[1]
        with socket.create_connection(("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))) as browser:
            browser.sendall(_HALF)
            assert browser.recv(25).startswith(b"HTTP/1.1 100 "), "the server asks for the rest"
            yield server
        server.kill()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(config: AnnotateConfig, number: signal.Signals, status: int) -> None:
    with server_in_the_middle_of_a_save(config, seconds=1000) as server:
        assert server.stderr is not None
        server.send_signal(number)
        assert server.stderr.readline() == (
            "sam-engine: 1 request under way, for 1000 s at most; a second signal ends all\n"
        )
        server.send_signal(number)
        assert server.wait() == status
        assert server.stderr.read().count("\n") == 1


def test_what_never_comes_is_not_waited_for(config: AnnotateConfig) -> None:
    """As from a laptop that fell asleep: its connection stands for hours."""
    with server_in_the_middle_of_a_save(config, seconds=0.1) as server:
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 143
        assert server.stderr is not None
        assert "browsers keep what was not saved" in server.stderr.read()
