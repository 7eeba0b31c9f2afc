"""Kill training at random moments, start it again, and compare the weights bit by bit with an undisturbed run.

    python -m tests.benchmarks.training_resume --json tests/benchmarks/results/training_resume.json

`sam-engine train` runs as a user runs it, with a Ray of its own. Every second kill is of the driver with all that it
started (then the same command is given again), the others of the training worker alone (then nothing is done).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
import tyro
from PIL import Image

from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from tests.benchmarks.record import environment_fields, write_json
from tests.workflows.train.conftest import picture
from workflows.storage import LocalStore
from workflows.train.metrics import read_metrics
from workflows.train.register import Finished

WORKER = "RayTrainWorker"


@dataclass(frozen=True, slots=True)
class Options:
    """How often and where to write."""

    json: Path | None = None
    """Record to write."""
    kills: int = 5
    """Runs that are killed once each."""
    steps: int = 60
    """Length of a run."""
    seed: int = 0
    """Of the moments."""


def main() -> None:
    options = tyro.cli(Options)
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_data(root)
        whole = finish(start(root, root / "whole", steps=options.steps), root / "whole")
        trials = [trial(root, number, moments, options, whole) for number in range(options.kills)]
    same = sum(found["same"] for found in trials)
    print(f"{same} of {options.kills} ended with the same weights")
    if options.json:
        record = {"same": same, "kills": options.kills, "sha256": whole.sha256, "trials": trials}
        config = {name: value for name, value in asdict(options).items() if name != "json"}
        write_json(options.json, {**record, "config": config, **environment_fields()})
    sys.exit(same < options.kills)


def make_data(root: Path) -> None:
    """Pictures with labels, and a model to begin with."""
    for folder in ("images", "labels"):
        (root / "data" / folder).mkdir(parents=True)
    for seed in range(12):
        image, labels = picture(seed)
        Image.fromarray(image).save(root / "data" / "images" / f"{seed:02d}.png")
        Image.fromarray(labels).save(root / "data" / "labels" / f"{seed:02d}.png")
    torch.manual_seed(0)
    save_model(Sam(vit_test()), root / "start.safetensors")


def trial(root: Path, number: int, moments: random.Random, options: Options, whole: Finished) -> dict[str, Any]:
    """One kill after a random step, and what came of it."""
    out, at = root / f"killed-{number}", moments.randrange(1, options.steps - 5)
    driver_dies = number % 2 == 0
    driver = start(root, out, steps=options.steps)
    while latest(out) < at and driver.poll() is None:
        time.sleep(0.02)
    time.sleep(moments.uniform(0, 0.3))
    reached = latest(out)
    assert driver.poll() is None, "killed too late to prove anything"
    if driver_dies:
        kill_all(driver)
        driver = start(root, out, steps=options.steps)
    else:
        kill_worker(driver)
    found = finish(driver, out)
    steps = [row.step for row in read_metrics(LocalStore(out), found.run_id)]
    same = found.sha256 == whole.sha256 and steps == list(range(1, options.steps + 1))
    print(f"{'driver' if driver_dies else 'worker'} killed after checkpoint {reached}: same weights {same}", flush=True)
    return {"killed": "driver" if driver_dies else "worker", "checkpoint": reached, "same": same}


def start(root: Path, out: Path, *, steps: int, every: int = 1, more: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """The command, in a session of its own."""
    words = f"train {root / 'data'} --out {out} --model vit_test --start {root / 'start.safetensors'} --image-size 64"
    settings = f"--images 2 --iterations {steps} --save-every {every} --threads 1"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [Path(sys.executable).parent / "sam-engine", *words.split(), *settings.split(), *more],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finish(driver: subprocess.Popen[bytes], out: Path) -> Finished:
    """Wait for the command; how the run ended."""
    assert driver.wait() == 0, f"sam-engine ended with {driver.returncode}"
    (path,) = out.glob("training/run=*/finished.json")
    return Finished(**json.loads(path.read_text()))


def latest(out: Path) -> int:
    """The newest whole checkpoint; 0 when there is none."""
    folders = (path.parent.name for path in out.glob("training/*/checkpoint-*/whole.json"))
    return max((int(name.removeprefix("checkpoint-")) for name in folders), default=0)


def kill_all(driver: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the driver and everything that it has started."""
    processes = [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    driver.wait()
    psutil.wait_procs(processes[:-1], timeout=20)


def kill_worker(driver: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the process that trains."""
    for process in psutil.Process(driver.pid).children(recursive=True):
        if WORKER in " ".join(process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
