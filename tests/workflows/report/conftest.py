"""Data sets for the tests of the report; made once, read by many."""

from pathlib import Path

import numpy as np
import pytest

from sam_core.recipes import Recipe
from schemas.tables import Status
from tests.workflows.report.data_sets import DataSet, boxes, done, failed, photos, run_record

PHOTOS = 8
SIZE = (24, 36)
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs over 8 photographs and 3 files that failed; the second run is called "strict" and is the newer."""
    folder = tmp_path_factory.mktemp("two_runs")
    rng = np.random.default_rng(7)
    data_set = DataSet(folder / "pets & <things>")
    broken = [folder / name for name in ("empty.jpg", "<b>bold<b>.jpg", "killer.jpg")]
    for number, path in enumerate(broken):
        path.write_bytes(b"x" * number)
    identifiers = data_set.add_images([*photos(folder / "photos", PHOTOS, rng=rng), *broken])
    for run in (run_record(), run_record("strict", minute=9, recipe=Recipe(min_predicted_iou=0.9))):
        results = [
            done(image, boxes(SIZE, int(rng.integers(0, 60)), rng=rng), rng=rng) for image in identifiers[:PHOTOS]
        ]
        results += [
            failed(identifiers[-3], "Empty", "the file has no bytes"),
            failed(identifiers[-2], "NotAnImage", HOSTILE),
            failed(identifiers[-1], "Crashed", "killed its process twice", Status.CRASHED),
        ]
        data_set.add_run(results[:6], run, shard=0)
        data_set.add_run(results[6:], run, shard=1)
    return data_set.root


@pytest.fixture
def empty_set(tmp_path: Path) -> DataSet:
    """A data set without images or runs."""
    return DataSet(tmp_path / "empty")
