"""Object-store requests per image: a whole run of the no-op generator against an S3 server, every request counted.

python -m tests.benchmarks.requests --images 20000 --json FILE
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import boto3
import tyro
from botocore.client import BaseClient
from moto.server import ThreadedMotoServer

from tests.benchmarks.made_up import NoOpSource, run_record, write_manifest
from tests.benchmarks.record import environment_fields, write_json
from workflows.image_limits import MAX_PIXELS
from workflows.image_worker import ShardJob
from workflows.ingest import ingest
from workflows.plans import pending_shards, settle_plan
from workflows.runs import open_dataset
from workflows.shard_worker import ShardWorker
from workflows.sources import list_images
from workflows.storage import open_store


@dataclass(frozen=True, slots=True)
class Options:
    """Counts the requests of a run to an S3 server."""

    images: int = 20_000
    """How many."""
    shard_size: int = 256
    """Images per shard."""
    json: Path | None = None
    """Record of the result."""


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often each S3 operation is asked for in the block, by boto3 in this process."""
    counts: Counter[str] = Counter()
    call = BaseClient._make_api_call

    def count(client: BaseClient, operation: str, values: dict[str, object]) -> object:
        counts[operation] += 1
        return call(client, operation, values)

    with mock.patch.object(BaseClient, "_make_api_call", count):
        yield counts


def measure(images: int, shard_size: int, root: str, folder: Path) -> dict[str, dict[str, int]]:
    """Requests by phase and operation. Reading an image is one more each, and not counted: bytes are made up."""
    write_manifest(folder / "manifest.parquet", images)
    store = open_store(root)
    phases: dict[str, dict[str, int]] = {}
    with counted() as counts:
        open_dataset(store)
        with ingest(list_images(str(folder / "manifest.parquet")), store, max_pixels=MAX_PIXELS) as listing:
            shards = settle_plan(store, run_record().run_id, listing.images(), shard_size=shard_size)
    phases["begin"] = dict(counts)
    with counted() as counts:
        worker = ShardWorker(ShardJob(root, run_record(), NoOpSource(), MAX_PIXELS, 3600.0, 1))
        for shard in shards:
            worker.work(shard)
    phases["work"] = dict(counts)
    with counted() as counts:
        assert not pending_shards(store, run_record().run_id, shards)
    phases["list_outcomes"] = dict(counts)
    return phases


def main() -> None:
    options = tyro.cli(Options)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "testing")
    os.environ |= keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    boto3.client("s3").create_bucket(Bucket="scale")
    with TemporaryDirectory() as folder:
        phases = measure(options.images, options.shard_size, "s3://scale/data", Path(folder))
    server.stop()
    total = sum(sum(phase.values()) for phase in phases.values())
    record = {"images": options.images, "phases": phases, "requests_per_image": total / options.images}
    record |= {"config": asdict(options) | {"json": None}} | environment_fields()
    print(json.dumps(record, indent=1))
    if options.json:
        write_json(options.json, record)


if __name__ == "__main__":
    main()
