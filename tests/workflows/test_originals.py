"""The file of an image is read where it still lies; where it lies nowhere, one line says why."""

from __future__ import annotations

from pathlib import Path

import boto3
import numpy as np
import pytest
from PIL import Image

from schemas.ids import image_id
from workflows.images import ImageError
from workflows.originals import StoredImage, read_original, read_pixels
from workflows.storage import StoreError
from workflows.uris import UriReader

DATA = b"the very bytes"


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """Where nothing lies, where something else lies, and where the image lies."""
    (tmp_path / "other.png").write_bytes(b"something else")
    (tmp_path / "copy.png").write_bytes(DATA)
    return [str(tmp_path / name) for name in ("gone.png", "other.png", "copy.png")]


def read(uris: list[str], wanted: str | None = image_id(DATA), *, max_bytes: int = 100) -> bytes:
    return read_original(UriReader(max_bytes=max_bytes), uris, wanted)


def test_the_first_place_that_has_the_image(places: list[str], bucket: str) -> None:
    boto3.client("s3").put_object(Bucket=bucket, Key="far.png", Body=DATA)
    far = f"s3://{bucket}/far.png"
    for uris in (places, [places[0], far], [f"s3://{bucket}/gone.png", far], [f"s3://{bucket}-none/a.png", places[2]]):
        assert read(uris) == DATA
    assert read(places, None) == b"something else"  # nobody noted what it was


def test_why_there_is_none(places: list[str], bucket: str) -> None:
    gone, other, copy = places
    far = f"s3://{bucket}/gone.png"
    moved = "no such file; if the images moved, `sam-engine ingest NEW_PLACE DATASET`"
    changed = f"{other}: the file has other bytes than when it was ingested"
    for uris, kind, message in (
        ([gone, far], "Unreadable", f"{gone}: {moved}"),
        ([far, gone], "Unreadable", f"{far}: {moved}"),
        ([gone, other, far], "Changed", changed),  # what says most, wherever it stands
        ([gone, copy], "TooManyBytes", f"{copy}: 14 bytes are more than the limit of 3 bytes"),
    ):
        with pytest.raises(ImageError) as refused:
            read(uris, max_bytes=3 if kind == "TooManyBytes" else 100)
        assert (refused.value.kind, str(refused.value)) == (kind, message)
    with pytest.raises(ImageError, match=r"gone\.png: no such file$"):
        read([gone], None)


def test_a_place_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (tmp_path / "locked.png").touch()
    with pytest.raises(ImageError, match=rf"^{tmp_path}/locked\.png: Permission denied$"):
        read([str(tmp_path / "locked.png")])


def test_a_store_at_fault_is_no_fault_of_the_image(places: list[str], bucket: str) -> None:
    with pytest.raises(StoreError, match="there is no such bucket"):
        read([places[0], f"s3://{bucket}-none/a.png", places[1]])


def test_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    stored = StoredImage(image_id(path.read_bytes()), (str(path),))
    np.testing.assert_array_equal(read_pixels(UriReader(), stored, max_pixels=35), pixels)
    with pytest.raises(ImageError, match=r"^.*/a\.png: 7 x 5 px is more than the limit of 34 px$") as refused:
        read_pixels(UriReader(), stored, max_pixels=34)
    assert refused.value.kind == "TooManyPixels"
