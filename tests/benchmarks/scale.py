"""The engine without a model, on a manifest of very many images: what each image costs, and what does not grow.

    python -m tests.benchmarks.scale --images 2000000 --json FILE

Ingest, plan and work go through the functions of `sam-engine generate`, in this process and its local Ray. Then the
outcomes of one shard in a hundred are taken away and a second process resumes: seconds until it hands out the first
shard. Names of images are made up, and so are their bytes (see made_up.py); everything that is written is real.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from schemas.layout import OUTCOMES_PREFIX
from tests.benchmarks.made_up import NoOpSource, run_record, write_manifest
from tests.benchmarks.record import environment_fields, write_json
from workflows.image_limits import MAX_PIXELS
from workflows.image_worker import ShardJob
from workflows.ingest import ingest
from workflows.plans import ShardTask, pending_shards, settle_plan
from workflows.progress import Progress
from workflows.ray_session import choose_pool, run_shards, start_ray
from workflows.runs import open_dataset, settle_run
from workflows.sources import list_images
from workflows.storage import Store, open_store

KEEP_EVERY = 100


@dataclass(frozen=True, slots=True)
class Options:
    """Measures the engine without a model on made-up images."""

    images: int = 20_000
    """How many."""
    shard_size: int = 256
    """Images per shard."""
    workers: int = 2
    """Processes that work, one core each."""
    folder: Path | None = None
    """Where the data set is made; a temporary folder, removed at the end, if not given."""
    json: Path | None = None
    """Record of the results."""
    resume: bool = False
    """Only resume the data set in the folder and say when the first shard starts."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What there is before the first shard: seconds by step, and the driver's memory after each in MB."""

    pending: list[ShardTask]
    seconds: dict[str, float]
    memory: dict[str, float]


def prepare(manifest: Path, store: Store, shard_size: int) -> Prepared:
    """Ingest and plan as `sam-engine generate` does, by the clock."""
    seconds, memory = {}, {"begin": memory_mb()}
    clock = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[step], memory[step], clock = now - clock, memory_mb(), now

    open_dataset(store)
    run = settle_run(store, run_record())
    with ingest(list_images(str(manifest)), store, max_pixels=MAX_PIXELS) as listing:
        lap("ingest")
        shards = settle_plan(store, run.run_id, listing.images(), shard_size=shard_size)
        lap("plan")
    pending = pending_shards(store, run.run_id, shards)
    lap("list_outcomes")
    start_ray()
    lap("start_ray")
    return Prepared(pending, seconds, memory)


def work(options: Options, folder: Path) -> dict[str, Any]:
    """Prepare and do all shards that are pending; the figures."""
    store = open_store(folder / "data")
    begin = time.perf_counter()
    prepared = prepare(folder / "manifest.parquet", store, options.shard_size)
    pool = replace(choose_pool(workers=options.workers, threads=1, on_gpu=False))
    job = ShardJob(store.root, run_record(), NoOpSource(), MAX_PIXELS, 3600.0, pool.threads)
    images = sum(task.stop - task.start for task in prepared.pending)
    handed_out = time.perf_counter()
    first = done = 0.0
    busy, peak, begun = 0.0, 0.0, 0
    with Progress("no-op", images) as progress:
        for summary in run_shards(job, prepared.pending, pool):
            done = time.perf_counter()
            if not first:
                first, begun = done, summary.images
            busy += summary.seconds
            progress.add(images=summary.images, errors=summary.errors)
    peak = peak_memory_mb()
    return {
        "worked_images": images,
        "seconds": prepared.seconds,
        "seconds_to_first_hand_out": handed_out - begin,
        "seconds_to_first_shard_done": first - begin,
        "images_per_second": (images - begun) / (done - first) if done > first else 0.0,
        "worker_milliseconds_per_image": 1000 * busy / images if images else 0.0,
        "driver_memory_mb": prepared.memory | {"peak": peak},
    }


def measure(options: Options, folder: Path) -> dict[str, Any]:
    """The whole measurement in a folder: a fresh run, then a resumed one with one shard in a hundred missing."""
    write_manifest(folder / "manifest.parquet", options.images)
    whole = in_another_process(options, folder)
    outcomes = sorted((folder / "data" / OUTCOMES_PREFIX).rglob("*.parquet"))
    for path in outcomes[::KEEP_EVERY]:
        path.unlink()
    resumed = in_another_process(options, folder)
    grown = whole["driver_memory_mb"]["peak"] - whole["driver_memory_mb"]["begin"]
    return {
        "images": options.images,
        "shard_size": options.shard_size,
        "workers": options.workers,
        "whole": whole,
        "resumed": resumed,
        "resumed_shards": len(outcomes[::KEEP_EVERY]),
        "driver_bytes_per_image": grown * 1e6 / options.images,
        "bytes_written_per_image": {
            name: sum(path.stat().st_size for path in (folder / "data" / name).rglob("*.parquet")) / options.images
            for name in ("images", "plans", "masks", "outcomes")
        },
    }


def in_another_process(options: Options, folder: Path) -> dict[str, Any]:
    """A driver of its own, whose memory is its own."""
    found = folder / "figures.json"
    line = [sys.executable, "-m", "tests.benchmarks.scale", "--resume", "--folder", folder, "--json", found]
    sizes = ["--shard-size", options.shard_size, "--workers", options.workers]
    subprocess.run([str(word) for word in [*line, *sizes]], check=True)
    figures: dict[str, Any] = json.loads(found.read_text())
    return figures


def memory_mb() -> float:
    """Resident memory of this process now, MB."""
    return _status_kb("VmRSS") * 1024 / 1e6


def peak_memory_mb() -> float:
    """The most that this process has held, MB."""
    return _status_kb("VmHWM") * 1024 / 1e6


def _status_kb(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    options = tyro.cli(Options)
    if options.resume and options.folder and options.json:
        write_json(options.json, work(options, options.folder))
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        record = measure(options, folder)
    finally:
        if options.folder is None:
            shutil.rmtree(folder)
    record |= {"config": asdict(options) | {"folder": None, "json": None}} | environment_fields()
    print(json.dumps(record, indent=1, default=str))
    if options.json:
        write_json(options.json, record)


if __name__ == "__main__":
    main()
