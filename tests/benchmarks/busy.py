"""How much of its time a worker's model works: the rest is reading, writing and waiting.

    python -m tests.benchmarks.busy --images FOLDER [--limit N] --json FILE

runs `sam-engine generate` with one worker of one thread and reads the outcomes: the model works on an image during the
seconds of its steps, which end when the image does. Busy is what these spans cover between the first's begin and the
last's end. One thread, because the steps' seconds are those of all threads together.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from numpy.typing import NDArray

from schemas.tables import STEPS
from tests.benchmarks.record import environment_fields, write_json
from workflows.sources import list_images
from workflows.sql import connect

_SPANS = f"""
SELECT epoch(finished_at) - ({" + ".join(f"seconds_{step}" for step in STEPS[2:])}) AS begin,
    epoch(finished_at) AS finish
FROM outcomes ORDER BY begin
"""


@dataclass(frozen=True, slots=True)
class Options:
    """Measures the busy share of a worker."""

    images: Path
    """Folder of photographs."""
    model: str = "vit_n"
    """Name of a model or a checkpoint."""
    limit: int | None = None
    """Only the first images."""
    shard_size: int | None = None
    """Images per shard; what `generate` chooses if not given."""
    json: Path | None = None
    """Record of the result."""


def busy_share(begins: NDArray[np.float64], finishes: NDArray[np.float64]) -> float:
    """The part of the time from the first begin to the last end that the spans cover; begins in ascending order."""
    covered, reached = 0.0, begins[0]
    for begin, finish in zip(begins, finishes, strict=True):
        covered += max(0.0, finish - max(begin, reached))
        reached = max(reached, finish)
    return float(covered / (reached - begins[0]))


def measure(options: Options, folder: Path) -> dict[str, object]:
    """Run the command and read its outcomes."""
    references = itertools.islice(list_images(str(options.images)), options.limit)
    pq.write_table(pa.table({"uri": [reference.uri for reference in references]}), folder / "list.parquet")
    command = [sys.executable, "-m", "workflows.cli", "generate", folder / "list.parquet", folder / "data"]
    size = ["--shard-size", options.shard_size] if options.shard_size else []
    line = [*command, "--model", options.model, "--workers", 1, "--threads", 1, *size]
    subprocess.run([str(word) for word in line], check=True)
    spans = connect(str(folder / "data")).sql(_SPANS).to_arrow_table()
    begins, finishes = spans["begin"].to_numpy(), spans["finish"].to_numpy()
    return {
        "images": len(spans),
        "busy_share": busy_share(begins, finishes),
        "seconds": finishes.max() - begins.min(),
        "shards": len(list((folder / "data" / "outcomes").rglob("*.parquet"))),
    }


def main() -> None:
    options = tyro.cli(Options)
    folder = Path(tempfile.mkdtemp(prefix="busy-"))
    try:
        record = measure(options, folder)
    finally:
        shutil.rmtree(folder)
    record |= {"config": asdict(options) | {"images": options.images.name, "json": None}} | environment_fields()
    print(json.dumps(record, indent=1))
    if options.json:
        write_json(options.json, record)


if __name__ == "__main__":
    main()
