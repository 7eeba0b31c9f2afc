"""Runs the notebooks on data that people can see something in, and keeps their outputs.

    python -m tests.benchmarks.notebooks FOLDER

FOLDER keeps the data sets between calls: the photographs of scikit-image in two recipes, and `audited`, which
tests.benchmarks.audited_nuclei writes beforehand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import nbclient
import nbformat
import tyro
from moto.server import ThreadedMotoServer
from tyro.conf import Positional

from tests.conftest import REPOSITORY
from workflows.cli import main as sam_engine

BUCKET = "my-bucket"


@dataclass(frozen=True, slots=True)
class Options:
    """Run every notebook in place."""

    folder: Positional[Path]
    """Where the data sets are made and kept."""


def main() -> None:
    options = tyro.cli(Options)
    demo, audited = (str(options.folder.absolute() / name) for name in ("demo", "audited"))
    sam_engine(["generate", "samples", demo])
    sam_engine(["generate", "samples", demo, "--run", "stricter", "--min-predicted-iou", "0.45"])
    with _bucket_of(Path(demo)) as address:
        variables = {"SAM_ENGINE_DATASET": demo, "SAM_ENGINE_AUDITED": audited}
        for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
            _execute(path, variables | ({"SAM_ENGINE_DATASET": address} if "s3" in path.name else {}))
            _without_places(path, options.folder.absolute(), REPOSITORY)
            print(path.name)


def _execute(path: Path, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran is nobody's business, and differs every time
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    path.write_text(text + "\n", encoding="utf-8")


def _without_places(path: Path, *places: Path) -> None:
    """Take folders of this machine out of a file."""
    text = path.read_text(encoding="utf-8")
    for place in places:
        text = text.replace(f"{place}/", "")
    path.write_text(text, encoding="utf-8")


@contextmanager
def _bucket_of(root: Path) -> Iterator[str]:
    """A data set as `s3://my-bucket/masks` on a server of this machine."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"})
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for file in (path for path in root.rglob("*") if path.is_file()):
        client.upload_file(str(file), BUCKET, f"masks/{file.relative_to(root).as_posix()}")
    yield f"s3://{BUCKET}/masks"
    server.stop()


if __name__ == "__main__":
    main()
