"""The table of annotation work, on rows whose figures can be added up by hand."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sam_core.masks.rle import encode
from schemas.layout import annotations_key, events_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import ANNOTATIONS, EVENTS
from workflows.report import write_report
from workflows.report.work import work
from workflows.runs import open_dataset
from workflows.sql import connect
from workflows.storage import open_store

NOON = datetime(2026, 1, 1, 12)


def annotation(mask_id: str, image: str, *, revision: int = 1, **other: object) -> dict[str, object]:
    """A mask of 2 x 2 px in an image of 4 x 4."""
    mask = np.zeros((4, 4), bool)
    mask[:2, :2] = True
    row: dict[str, object] = dict.fromkeys(ANNOTATIONS.names)
    row |= {"mask_id": mask_id, "revision": revision, "deleted": False, "image_id": image, "session": "s"}
    row |= {"annotator": "Ada", "stage": "assisted_manual", "round": 1, "model_id": "m-1", "height": 4, "width": 4}
    row |= {"rle": encode(mask), "bbox_x": 0, "bbox_y": 0, "bbox_w": 2, "bbox_h": 2, "area": 4}
    row |= {"clicks": 2, "brushed": 0, "seconds": 10.0, "created_at": NOON}
    return row | other


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Ada: three masks on two images (one edited, one deleted) and a proposal seen; Bob: one by hand, without round."""
    store = open_store(tmp_path)
    open_dataset(store)
    rows = [
        annotation("a", "i1"),
        annotation("a", "i1", revision=2, clicks=0, brushed=3, seconds=5.0),
        annotation("b", "i1", deleted=True),
        annotation("c", "i2", seconds=20.0),
        annotation("proposal", "i2", clicks=0, seconds=1.5),
        annotation("d", "i3", annotator="Bob", model_id=None, round=None, clicks=0, brushed=4, seconds=34.0),
    ]
    store.put(annotations_key("s", 1), to_parquet_bytes(pa.Table.from_pylist(rows, schema=ANNOTATIONS)))
    event = {"session": "s", "sequence": 1, "annotator": "Ada", "round": 1, "stage": "assisted_manual", "active": 1.0}
    event |= {"action": "reminder", "happened_at": NOON}
    store.put(events_key("s", 1), to_parquet_bytes(pa.Table.from_pylist([event], schema=EVENTS)))
    return tmp_path


def test_figures_are_those_of_the_rows(dataset: Path) -> None:
    bob, ada = work(connect(str(dataset)))
    assert (ada.images, ada.masks, ada.masks_per_image) == (2, 3, 1.5)
    assert (ada.worked_on, ada.seconds_per_mask, ada.clicks_per_mask) == (3, 15.0, 2.0)
    assert (ada.brushed, ada.reminded) == (0.25, 0.333)
    assert (bob.round, bob.model_id, bob.seconds_per_mask, bob.brushed, bob.reminded) == (None, None, 34.0, 1.0, 0.0)


def test_the_report_shows_them(dataset: Path, tmp_path: Path) -> None:
    write_report(str(dataset), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Annotation</h2>" in page
    assert "by hand" in page
    assert "<td>0.25</td>" in page  # brushed px for each px of her masks, which may be more than one
    assert '<a href="#work">Annotation</a>' in page
    assert "No automatic masks yet" in page
