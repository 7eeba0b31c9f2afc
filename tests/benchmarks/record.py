"""What a recorded benchmark says about the code and the machine it ran on."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "torch",
    "numpy",
    "opencv-python-headless",
    "scipy",
    "scikit-image",
    "pycocotools",
    "numba",
    "segment-anything",
)


@dataclass(frozen=True, slots=True)
class Environment:
    """commit: "-dirty" behind it when tracked files of sam_core or the benchmarks differ. cores: usable ones."""

    commit: str
    cpu: str
    cores: int
    python: str
    versions: dict[str, str]


def environment() -> Environment:
    return Environment(
        commit=_commit(),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        versions={name: version(name) for name in PACKAGES},
    )


def environment_fields() -> dict[str, Any]:
    """The environment as fields of a record, with the machine in one line."""
    found, gpu = environment(), torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = f"{found.cores} cores of {found.cpu}"
    return asdict(found) | {"gpu": gpu, "machine": f"{gpu}, {machine}" if gpu else machine}


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Pretty JSON with NaN as null, written whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(_finite(record), indent=1) + "\n")
    partial.replace(path)


def cpu_seconds() -> float:
    """CPU time of this process so far, all threads."""
    return time.process_time()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = "-dirty" if git("status", "--porcelain", "--untracked-files=no", "sam_core", "tests/benchmarks") else ""
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + changed


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
