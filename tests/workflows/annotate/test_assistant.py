"""Pictures that cannot be read, by the server of a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflows.annotate.conftest import client_of
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.studio import open_studio


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
