"""What the decoder of the server needs of ONNX Runtime, and what not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="needs the extra `annotate`")


def test_nothing_is_told_to_those_who_made_onnx_runtime(tmp_path: Path) -> None:
    """Its official builds send what is done with them, under a number that they leave in the home folder."""
    quiet = ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "GITHUB_ACTIONS", "CI")
    home = {name: value for name, value in os.environ.items() if name not in quiet} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import workflows.annotate.decoder"], env=home, check=True, timeout=300)
    assert not list(tmp_path.rglob("*onnxruntime*"))
