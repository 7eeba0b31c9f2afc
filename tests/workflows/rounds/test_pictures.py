"""Images with true masks: which files are read, what is left out, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from sam_core.model.checkpoint import CheckpointError
from schemas.ids import image_id
from tests.workflows.rounds.conftest import save_pictures
from workflows.models import Model
from workflows.rounds.pictures import Desk, Truth
from workflows.storage import LocalStore
from workflows.uris import UriReader


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return save_pictures(tmp_path / "pool", range(4))


def test_images_with_their_masks_in_order(pool: Path) -> None:
    found = list(Truth(str(pool)).first(3))
    assert len(found) == 3
    for number, true in enumerate(found):
        file, labels = pool / "images" / f"{number}.png", np.array(Image.open(pool / "labels" / f"{number}.png"))
        assert true.image_id == image_id(file.read_bytes())
        np.testing.assert_array_equal(true.image, np.array(Image.open(file)))
        np.testing.assert_array_equal(true.masks.dense(), [labels == value for value in np.unique(labels) if value])


def test_only_files_of_the_size_of_a_wanted_one_are_read(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((pool / "images").iterdir())
    files[1].write_bytes(files[1].read_bytes() + b"longer than all others" * 100)
    known = {image_id(file.read_bytes()): file.stat().st_size for file in files[1:2]}
    truth, read = Truth(str(pool)), []
    monkeypatch.setattr(UriReader, "read", lambda self, uri: read.append(uri) or Path(uri).read_bytes())
    assert truth.find(known | {"another": 7}) == dict.fromkeys(known, 1)
    assert read == [str(files[1])]


def test_crowds_and_images_without_masks_are_left_out(pool: Path) -> None:
    height, width = np.array(Image.open(pool / "images" / "0.png")).shape[:2]
    images = [{"id": n, "file_name": f"{n}.png", "height": height, "width": width} for n in range(3)]
    square = {"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
    square["segmentation"] = [[1, 1, 4, 1, 4, 4, 1, 4]]
    crowd = square | {"id": 2, "iscrowd": 1, "segmentation": {"size": [height, width], "counts": [0, height * width]}}
    document = {"images": images, "annotations": [square, crowd], "categories": [{"id": 1, "name": "thing"}]}
    (pool / "images" / "instances.json").write_text(json.dumps(document))
    truth = Truth(str(pool / "images" / "instances.json"))
    (found,) = truth.first(3)
    assert truth.uris(3) == [str(pool / "images" / "2.png")]
    assert found.masks.dense().sum((1, 2)).tolist() == [9]
    nothing = Truth(str(pool / "images" / "instances.json"), empty=True).read(0)  # as people look at it, too
    assert (len(nothing.masks), nothing.masks.size) == (0, (height, width))


def test_a_desk_does_not_take_another_checkpoint_at_the_same_place(tmp_path: Path, replaced_model: Model) -> None:
    """The embeddings that it stores would bear the name of the one that was there."""
    with duckdb.connect() as connection, pytest.raises(CheckpointError, match="not the checkpoint that"):
        Desk(LocalStore(tmp_path), replaced_model, connection)


def test_masks_of_another_picture_are_refused(pool: Path) -> None:
    Image.new("RGB", (5, 7)).save(pool / "images" / "0.png")
    with pytest.raises(ValueError, match=r"0\.png: masks of \d+x\d+ px for an image of 5x7 px"):
        Truth(str(pool)).read(0)
