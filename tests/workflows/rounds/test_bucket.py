"""An engine of which all lies in an object store: data set, pictures, true masks, held-out images and models."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from tests.workflows.rounds.conftest import Document, Opened, finish
from workflows.rounds.config import parse_engine
from workflows.sql import connect


def upload(folder: Path, bucket: str) -> str:
    """The address of a folder's copy in the bucket."""
    client = boto3.client("s3")
    for path in folder.rglob("*.*"):
        client.upload_file(str(path), bucket, path.relative_to(folder.parent).as_posix())
    return f"s3://{bucket}/{folder.name}"


@pytest.mark.slow
def test_it_comes_to_its_end(document: Document, opened: Opened, bucket: str, tmp_path: Path) -> None:
    pool, held_out = (upload(tmp_path / name, bucket) for name in ("pool", "held_out"))
    model = Path(document["model"])
    dataset = f"s3://{bucket}/data"
    there = {
        "dataset": dataset,
        "images": f"{pool}/images",
        "held_out": held_out,
        "model": f"{upload(model.parent, bucket)}/{model.name}",
        "simulation": document["simulation"] | {"truth": pool},
    }
    finish(opened(parse_engine(document | there, where="engine.yaml")))
    connection = connect(dataset)
    first, second = connection.sql("FROM round_summary").to_arrow_table().to_pylist()
    assert (first["images"], second["images"]) == (2, 2)
    assert (first["promoted"], second["promoted"]) == (True, True)
    assert second["model_before"] == first["model_after"]
    (images,) = connection.sql("SELECT count(DISTINCT image_id) FROM annotations").fetchall()
    assert images == (4,)
    assert not connection.execute("FROM problems").fetchall()
