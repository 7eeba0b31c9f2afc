"""Many images through one worker: its memory must stay where it is.

python -m tests.benchmarks.soak --images 20000 --json FILE
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from tests.benchmarks.made_up import NoOpSource, run_record, write_manifest
from tests.benchmarks.record import environment_fields, write_json
from tests.benchmarks.scale import memory_mb
from workflows.image_limits import MAX_PIXELS
from workflows.image_worker import ShardJob
from workflows.ingest import ingest
from workflows.plans import settle_plan
from workflows.runs import open_dataset
from workflows.shard_worker import ShardWorker
from workflows.sources import list_images
from workflows.storage import open_store


@dataclass(frozen=True, slots=True)
class Options:
    """Measures the memory of one worker over many images."""

    images: int = 20_000
    """How many."""
    shard_size: int = 256
    """Images per shard."""
    json: Path | None = None
    """Record of the result."""


def memory_by_shard(folder: Path, images: int, shard_size: int) -> list[float]:
    """Resident MB of this process after each shard that a worker in it has done."""
    write_manifest(folder / "manifest.parquet", images)
    store = open_store(folder / "data")
    open_dataset(store)
    with ingest(list_images(str(folder / "manifest.parquet")), store, max_pixels=MAX_PIXELS) as listing:
        shards = settle_plan(store, run_record().run_id, listing.images(), shard_size=shard_size)
    worker = ShardWorker(ShardJob(store.root, run_record(), NoOpSource(), MAX_PIXELS, 3600.0, 1))
    memory = []
    for shard in shards:
        worker.work(shard)
        memory.append(memory_mb())
    return memory


def growth(memory: list[float], images: int) -> float:
    """Bytes per image by a straight line through the second half, when everything that is kept has been loaded."""
    half = memory[len(memory) // 2 :]
    slope = np.polyfit(np.arange(len(half)), half, 1)[0]
    return float(slope * 1e6 * len(memory) / images)


def main() -> None:
    options = tyro.cli(Options)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        memory = memory_by_shard(folder, options.images, options.shard_size)
    finally:
        shutil.rmtree(folder)
    record = {
        "images": options.images,
        "memory_mb": {"first_shard": memory[0], "middle": memory[len(memory) // 2], "last_shard": memory[-1]},
        "bytes_per_image": growth(memory, options.images),
        "config": asdict(options) | {"json": None},
    } | environment_fields()
    print(json.dumps(record, indent=1))
    if options.json:
        write_json(options.json, record)


if __name__ == "__main__":
    main()
