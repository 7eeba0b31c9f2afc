"""One worker beside two that share the same batch: how far their loss curves part.

    python -m tests.benchmarks.training_workers --json tests/benchmarks/results/training_workers.json

`sam-engine train` on Ray Train, CPU, gloo, float32: once with one worker, then with two copying the encoder (DDP) and
two sharding it (FSDP2). Two workers take half of the images of a step each.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from tests.benchmarks.record import environment_fields, write_json
from tests.benchmarks.training_resume import finish, make_data, start
from workflows.storage import LocalStore
from workflows.train.metrics import StepMetrics, read_metrics

WAYS = {"one": (), "two, DDP": ("--workers", "2"), "two, FSDP2": ("--workers", "2", "--shard")}


@dataclass(frozen=True, slots=True)
class Options:
    """How long and where to write."""

    json: Path | None = None
    """Record to write."""
    steps: int = 60
    """Length of a run."""


def main() -> None:
    options = tyro.cli(Options)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_data(root)
        curves = {name: curve(root, root / name.replace(", ", "-"), options.steps, more) for name, more in WAYS.items()}
    apart = {name: difference(curves["one"], rows) for name, rows in curves.items() if name != "one"}
    for name, found in apart.items():
        print(f"{name}: largest difference of any loss {found['largest']:.2e}, at the last step {found['last']:.2e}")
    if options.json:
        largest = max(found["largest"] for found in apart.values())
        losses = {name: [sum(row.values.values()) for row in rows] for name, rows in curves.items()}
        record = {"largest_difference": largest, "differences": apart, "steps": options.steps, "curves": losses}
        write_json(options.json, {**record, "scientific": f"{largest:.3e}", **environment_fields()})


def curve(root: Path, out: Path, steps: int, more: tuple[str, ...]) -> list[StepMetrics]:
    """The metrics of a run."""
    finished = finish(start(root, out, steps=steps, every=20, more=more), out)
    return read_metrics(LocalStore(out), finished.run_id)


def difference(ours: list[StepMetrics], theirs: list[StepMetrics]) -> dict[str, Any]:
    """Largest absolute difference of any metric, over all steps and at the last one."""
    a, b = (np.array([list(row.values.values()) for row in rows]) for rows in (ours, theirs))
    apart = np.abs(a - b).max(axis=1)
    return {"largest": float(apart.max()), "last": float(apart[-1])}


if __name__ == "__main__":
    main()
