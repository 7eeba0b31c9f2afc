"""The server as a process of its own, killed while people work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.workflows.annotate.conftest import blob, body, mask_row
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.studio import open_studio
from workflows.sql import connect


@pytest.mark.slow
def test_killed_while_twenty_people_save(config: AnnotateConfig) -> None:
    """A real process is killed in the middle; what was acknowledged is there, what was sent again is there once."""
    program = [sys.executable, "-m", "workflows.cli", "annotate", config.dataset, "--model", config.model]
    command = [*program, "--port", "0", "--no-browser-decoder", "--threads", "1"]
    image = next(iter(open_studio(config).images))
    save = {f"s{n}": body(f"A{n}", masks=[mask_row(image, blob(48, 64, n), mask_id=f"m{n}")]) for n in range(20)}
    acknowledged: list[str] = []

    def send(address: str, session: str) -> None:
        try:
            httpx.put(f"{address}/api/sessions/{session}/parts/1", json=save[session], timeout=120).raise_for_status()
            acknowledged.append(session)
        except httpx.TransportError:
            return

    for kill in (True, False):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = next(line for line in server.stdout if line.startswith("open ")).split()[1].rstrip("/")
            missing = [session for session in save if session not in acknowledged]
            with ThreadPoolExecutor(4) as pool:
                for number, session in enumerate(missing):
                    if kill and number == 10:
                        os.kill(server.pid, signal.SIGKILL)
                    pool.submit(send, address, session)
            server.kill()
    assert sorted(acknowledged) == sorted(save)
    kept = connect(config.dataset).execute("SELECT count(*), count(DISTINCT mask_id) FROM annotations").fetchall()
    assert kept == [(20, 20)]
