"""Masks of a data set as an index: some images at a time, whole images, the same in however many pieces."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.workflows.report.data_sets import DataSet, boxes, done, photos, run_record
from workflows.train import index as module
from workflows.train import table_rows
from workflows.train.index import INDEX, index_sha256
from workflows.train.sources import open_sources
from workflows.train.table_rows import mask_rows, whole_images

PICTURES = pa.table({"uris": [["a"], ["b", "bb"], ["c"]], "image_id": ["1", "2", "3"]})
MASKS = pa.table(
    {
        "place": pa.array([0, 0, 0, 1, 2, 2, 2, 2], pa.int64()),
        "height": pa.array([4, 4, 4, 5, 6, 6, 9, 9], pa.int32()),
        "width": pa.array([4, 4, 4, 5, 6, 6, 6, 6], pa.int32()),
        "rle": pa.array([b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"], pa.binary()),
    }
)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
def test_images_stay_whole_wherever_masks_are_cut(rows: int) -> None:
    """Where masks of one image are of several sizes, which no image has, each size has a row that is told later."""
    found = pa.concat_tables(whole_images(MASKS.to_batches(max_chunksize=rows), PICTURES))
    assert found.schema.equals(INDEX)
    assert found["uris"].to_pylist() == [["a"], ["b", "bb"], ["c"], ["c"]]
    assert found["image_id"].to_pylist() == ["1", "2", "3", "3"]
    assert found["height"].to_pylist() == [4, 5, 6, 9]
    assert found["rles"].to_pylist() == [[b"a", b"b", b"c"], [b"d"], [b"e", b"f"], [b"g", b"h"]]
    assert found["masks_uri"].null_count == found["vectors"].null_count == 4


def test_embeddings_stay_with_their_masks() -> None:
    vectors = pa.array([[bytes([number]), b"x"] for number in range(8)], pa.list_(pa.binary()))
    batches = MASKS.append_column("vectors", vectors).to_batches(max_chunksize=3)
    found = pa.concat_tables(whole_images(batches, PICTURES))
    assert found["vectors"].to_pylist() == [vectors.to_pylist()[a:b] for a, b in ((0, 3), (3, 4), (4, 6), (6, 8))]


def test_masks_come_some_images_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of 10 million masks do not fit into memory as objects of Python, nor as lists that DuckDB collects."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    ids = data.add_images(photos(tmp_path / "photos", 6, rng=rng))
    data.add_run([done(image, boxes((24, 36), 3, rng=rng), rng=rng) for image in ids], run_record("one"))
    monkeypatch.setattr(table_rows, "_ROWS_AT_ONCE", 6)
    tables = [rows for rows in mask_rows(str(data.root), "", None) if len(rows)]
    assert all(isinstance(rows, pa.Table) and len(rows) <= 2 for rows in tables)
    (source,) = open_sources((str(data.root),), need_masks=True)
    assert source.index is not None
    assert pa.concat_tables(tables).equals(source.index)
    assert [len(rles) for rles in source.index["rles"].to_pylist()] == [3] * 6
    uris = source.index["uris"].to_pylist()
    assert uris == sorted(uris)


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_the_hash_of_an_index_does_not_depend_on_its_pieces(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of one too large to be joined is another one, but the same again."""
    index = pa.concat_tables(whole_images(MASKS.to_batches(max_chunksize=rows), PICTURES))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, INDEX) as writer:
        writer.write_table(pa.Table.from_pylist(index.to_pylist(), INDEX))
    assert index_sha256(index) == hashlib.sha256(sink.getvalue().to_pybytes()).hexdigest()
    monkeypatch.setattr(module, "_JOINED_AT_MOST", 0)
    monkeypatch.setattr(module, "_ROWS_JOINED", 3)
    assert index_sha256(index) == index_sha256(pa.Table.from_pylist(index.to_pylist(), INDEX))
    assert index_sha256(index) != index_sha256(index.slice(1))
