"""Bytes per mask against the files themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks import bytes_per_mask
from tests.benchmarks.bytes_per_mask import Options


@pytest.fixture
def image(photo: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(photo[:90, :120]).save(path)
    return path


def test_sizes_are_those_of_the_files(image: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    bytes_per_mask.run(Options(image.parent, str(tiny_checkpoint), recipe="edges", json=out))
    record = json.loads(out.read_text())
    assert record["masks"] > 0
    assert record["rle_bytes_per_mask"] < record["parquet_bytes_per_mask"]
    assert record["rle_bytes_per_mask"] + 100 < record["json_bytes_per_mask"]
    ratio = record["parquet_bytes_per_mask"] / record["json_bytes_per_mask"]
    assert record["share_of_json"] == pytest.approx(ratio, rel=1e-3)


def test_no_masks_are_refused(image: Path, tiny_checkpoint: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(image)
    with pytest.raises(ValueError, match="no masks were found"):
        bytes_per_mask.run(Options(image.parent, str(tiny_checkpoint), recipe="reference"))
