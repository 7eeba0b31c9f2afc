"""Pictures that cannot be read, or that many ask for, by the server of a task."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import get_ident

import boto3
import numpy as np
import pytest

from tests.workflows.annotate.conftest import client_of
from tests.workflows.conftest import save_photos
from tests.workflows.fault_proxy import Fault, fault_proxy
from workflows.annotate import assistant
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.studio import Studio, open_studio
from workflows.cli import main
from workflows.originals import StoredImage, pixels_of


@pytest.mark.parametrize(("gone", "status"), [(1, 422), (4, 503)])
def test_pictures_that_are_all_gone_are_away(config: AnnotateConfig, gone: int, status: int) -> None:
    """A disk that is not mounted. The app notes that an image is skipped which cannot be opened for good, and it would
    note so of one after the other: nobody would be offered them again."""
    studio = open_studio(config)
    client, uris = client_of(studio), {image: each.stored.uri for image, each in studio.images.items()}
    image, *_ = uris
    for uri in list(uris.values())[:gone]:
        Path(uri).rename(f"{uri}.away")
    try:
        answers = [client.get(f"/api/images/{image}/{kind}") for kind in ("picture", "embedding")]
    finally:
        for uri in list(uris.values())[:gone]:
            Path(f"{uri}.away").rename(uri)
    assert [answer.status_code for answer in answers] == [status, status]
    assert all(answer.json()["detail"].startswith(f"{uris[image]}: no such file") for answer in answers)
    assert client.get(f"/api/images/{image}/picture").status_code == 200


@pytest.mark.parametrize(("refused", "status"), [("photos/photo-000.png", 422), ("photos/", 503)])
def test_a_bucket_that_refuses_all_pictures_is_away(
    config: AnnotateConfig,
    bucket: str,
    s3_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: str,
    status: int,
) -> None:
    for path in save_photos(tmp_path / "photos", 2):
        boto3.client("s3").upload_file(str(path), bucket, f"photos/{path.name}")
    assert main(["ingest", f"s3://{bucket}/photos", str(tmp_path / "set")]) == 0
    with fault_proxy(s3_server) as (address, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        studio = open_studio(replace(config, dataset=str(tmp_path / "set")))
        (image,) = (image for image, each in studio.images.items() if each.stored.uri.endswith("photo-000.png"))
        proxy.faults = [Fault("refuse", 403, "AccessDenied", path=refused)]
        answer = client_of(studio).get(f"/api/images/{image}/picture")
    assert (answer.status_code, "AccessDenied" in answer.json()["detail"]) == (status, True)


def test_pictures_are_unpacked_one_after_the_other(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50 MP each takes 0.6 GB: when twenty people zoom in at once, their pictures wait as files. One thread does it,
    as each keeps what its allocator does not give back."""
    inside = 0
    most: list[int] = []
    held: list[bool] = []
    threads: set[int] = set()

    def unpack(image: StoredImage, data: bytes, *, max_pixels: int) -> np.ndarray:
        nonlocal inside
        inside += 1
        most.append(inside)
        held.append(studio.assistant._lock.locked())
        threads.add(get_ident())
        pixels = pixels_of(image, data, max_pixels=max_pixels)
        inside -= 1
        return pixels

    monkeypatch.setattr(assistant, "pixels_of", unpack)
    client = client_of(studio)
    asked = [f"/api/images/{image}/embedding" for image in studio.images] * 2
    with ThreadPoolExecutor(len(asked)) as people:
        assert {answer.status_code for answer in people.map(client.get, asked)} == {200}
    assert set(most) == {1}
    assert len(threads) == 1
    assert all(held)  # so those who wait for the model hold files alone
