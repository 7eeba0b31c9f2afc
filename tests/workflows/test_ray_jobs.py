"""The same command under `ray job submit`, against a head of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.workflows.conftest import BIN, QUICK
from workflows.sql import connect


@pytest.mark.slow
def test_a_submitted_job_does_what_the_command_does(cluster: str, tmp_path: Path, tiny_checkpoint: Path) -> None:
    command = ["sam-engine", "generate", "samples", tmp_path / "data", "--model", tiny_checkpoint, *QUICK]
    submit = [BIN / "ray", "job", "submit", "--address", cluster, "--", *command]
    done = subprocess.run([str(word) for word in submit], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "9 images" in done.stdout
    connection = connect(str(tmp_path / "data"))
    assert connection.execute("SELECT count(*) FROM outcomes WHERE status = 'ok'").fetchall() == [(9,)]
