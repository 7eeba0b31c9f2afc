"""Workers on machines that do not have the disk of the command's: nothing is written there, and no image is blamed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest

from tests.workflows import fakes
from tests.workflows.conftest import save_photos
from tests.workflows.planned import outcomes, plan, planned
from workflows.embed import EmbedJob, EmbedWorker
from workflows.image_worker import SeenFile
from workflows.ingest import ingest, ingest_chunk
from workflows.models import find_model
from workflows.plans import ShardTask
from workflows.relate import relate_shards
from workflows.runs import open_dataset
from workflows.shard_worker import ShardWorker
from workflows.sizes import read_chunk
from workflows.sources import list_images
from workflows.storage import LocalStore

HERE = socket.gethostname()
TASK = ShardTask(shard=0, part=1, part_sha256="", start=0, stop=1)


def embed_there(root: str, chunk: pa.Table) -> None:
    """What a worker does with a chunk of images, its failure raised."""
    job = EmbedJob(root, find_model("vit_n"), "cpu", threads=1, max_pixels=10**6)
    raise OSError(EmbedWorker(job)({"image_ids": ["ab" * 16], "uris": [chunk["uri"].to_pylist()]})["failure"])


@pytest.mark.parametrize(
    "work",
    [
        embed_there,
        lambda root, chunk: ingest_chunk(root, 10**6, None, chunk),
        lambda root, chunk: read_chunk(root, 10**6, chunk),
        lambda root, _: relate_shards(root, 0.9, 0.9, pa.table({"run_id": ["run"], "shard": [0]})),
        lambda root, _: ShardWorker(fakes.shard_job(root)).work(TASK),
    ],
)
def test_a_folder_of_another_machine_is_no_data_set(tmp_path: Path, work: Callable[[str, pa.Table], object]) -> None:
    """`embed` on two machines said that all images were embedded: half of the files lay on the other one's disk."""
    (picture,) = save_photos(tmp_path / "photos", 1)
    with pytest.raises(OSError, match=f"data is no data set on {HERE}, where a worker is: for several"):
        work(str(tmp_path / "data"), pa.table({"uri": [str(picture)], "content_sha256": ["0" * 64]}))
    assert not (tmp_path / "data").exists()


def test_pictures_of_another_machine_are_not_blamed(tmp_path: Path) -> None:
    """They became rows of errors, which stay."""
    store = LocalStore(tmp_path / "data")
    image = planned(fakes.save_flat(tmp_path / "fine.png", fakes.FINE))
    (task,) = plan(store, [image], shard_size=1)
    there = replace(fakes.shard_job(store.root), seen=SeenFile(str(tmp_path / "away" / "fine.png"), "head"))
    failure = ShardWorker(there)(asdict(task))["failure"]
    assert str(failure).startswith(f"{tmp_path}/away/fine.png is on head and not on {HERE}, where a worker is: for")
    assert not outcomes(store)
    assert not list(store.list("in_flight"))
    for seen in (SeenFile(image.uri, "head"), SeenFile(str(tmp_path / "gone.png"), HERE)):
        assert "failure" not in ShardWorker(replace(there, seen=seen))(asdict(task))


def test_a_picture_on_a_disk_is_told_from_others(tmp_path: Path) -> None:
    save_photos(tmp_path / "photos", 2)
    store = LocalStore(tmp_path / "data")
    open_dataset(store)
    with ingest(list_images(str(tmp_path / "photos")), store, max_pixels=10**6) as listing:
        seen = listing.seen_here()
        assert seen is not None
        Path(seen).unlink()
        assert listing.seen_here() is None
