"""The whole engine, killed at random with SIGKILL, beside an undisturbed one: do both end in the same state?

    python -m tests.benchmarks.rounds_kill --json tests/benchmarks/results/rounds_kill.json

`vit_test` on small pictures, one round of each stage, the command as people give it, training on Ray Train. The command
and everything it started die together, at a moment drawn between the first second and the time of a whole run.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
import yaml

from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from tests.benchmarks.record import environment_fields, write_json
from tests.workflows.rounds.conftest import save_pictures
from tests.workflows.rounds.state import state_of


@dataclass(frozen=True, slots=True)
class Options:
    """How often to kill and where to write."""

    json: Path | None = None
    """Record to write."""
    kills: int = 10
    """Kills."""
    seed: int = 0
    """Of the moments."""
    others: str = ""
    """What else ran on the machine, for the record."""


def main() -> int:
    options = tyro.cli(Options)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work)
        started = time.perf_counter()
        finish(work)
        whole = time.perf_counter() - started
        calm = state_of(work / "data")
        print(f"undisturbed: {whole:.0f} s", flush=True)
        shutil.rmtree(work / "data")
        moments = disturb(work, options, whole)
        finish(work)
        disturbed = state_of(work / "data")
    differing = sorted(name for name in calm if not _equal(calm[name], disturbed[name]))
    print(f"{len(moments)} kills, {'same state' if not differing else 'differs in ' + ', '.join(differing)}")
    if options.json:
        found = {"kills": len(moments), "moments": moments, "same_state": not differing, "differing": differing}
        told = {"seconds_undisturbed": whole, "rounds": len(calm["rounds"]), "others": options.others}
        write_json(options.json, found | told | environment_fields())
    return int(bool(differing))


def prepare(work: Path) -> None:
    """Pictures with true masks, a model, and an engine of one round of each stage."""
    save_pictures(work / "pool", range(6))
    save_pictures(work / "held_out", range(10, 13))
    torch.manual_seed(0)
    save_model(Sam(vit_test()), work / "vit_test.safetensors")
    training = {"iterations": 6, "images": 2, "masks_per_image": 3, "image_size": 64, "threads": 1, "save_every": 2}
    described = {
        "dataset": str(work / "data"),
        "images": str(work / "pool" / "images"),
        "held_out": str(work / "held_out"),
        "model": str(work / "vit_test.safetensors"),
        "stages": [
            {"stage": "assisted_manual", "images": 2},
            {"stage": "semi_automatic", "images": 2, "policy": "most_uncertain"},
            {"stage": "automatic", "recipe": "draft", "training": {"preset": "stage3_fine_tune", **training}},
        ],
        "training": training,
        "detector": {"fit": {"iterations": 5, "width": 8}, "precision": 0.1, "iou": 0.01},
        "evaluation": {"images": 2, "masks_per_image": 2, "recall_images": 1, "points_per_side": 2},
        "gate": {"least_gain": -1.0, "distrust_loss": 2.0},
        "simulation": {"truth": str(work / "pool"), "habits": {"clicks": 3}},
        "threads": 1,
    }
    (work / "engine.yaml").write_text(yaml.safe_dump(described))


def disturb(work: Path, options: Options, whole: float) -> list[float]:
    """Start and kill until it was killed often enough; seconds from start to kill of each."""
    moments: list[float] = []
    draw = random.Random(options.seed)
    while len(moments) < options.kills:
        moment = draw.uniform(1.0, whole)
        process = start(work)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(round(moment, 2))
            print(f"killed after {moment:.1f} s", flush=True)
        else:  # finished before its moment: begin anew
            shutil.rmtree(work / "data")
    return moments


def finish(work: Path) -> None:
    """Run to the end. Raises RuntimeError when the command fails."""
    if start(work).wait():
        raise RuntimeError((work / "errors.log").read_text()[-2000:])


def start(work: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "workflows.cli", "rounds", "run", str(work / "engine.yaml"), "--simulate"]
    with (work / "errors.log").open("w") as log:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)


def _equal(one: Any, other: Any) -> bool:
    return bool(one.equals(other)) if hasattr(one, "equals") else one == other


if __name__ == "__main__":
    raise SystemExit(main())
