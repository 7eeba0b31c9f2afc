"""Whole columns of RLEs against pycocotools, one mask at a time."""

import itertools
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from schemas.rle import RleError, measure, parse_runs
from tests.schemas import rows

BITMAPS = st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(0, 1))


def encode(bitmap: NDArray[np.bool_]) -> dict[str, object]:
    rle: dict[str, object] = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
    return rle


def random_bitmap(height: int, width: int, seed: int, density: float) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((height, width)) < density


def assert_as_pycocotools(bitmaps: list[NDArray[np.bool_]]) -> None:
    rles = [encode(bitmap) for bitmap in bitmaps]
    runs = parse_runs(pa.array([rle["counts"] for rle in rles]))
    heights = np.array([bitmap.shape[0] for bitmap in bitmaps])
    np.testing.assert_array_equal(runs.pixels, [bitmap.size for bitmap in bitmaps])
    np.testing.assert_array_equal(runs.areas, [coco_mask.area(rle) for rle in rles])
    np.testing.assert_array_equal(runs.boxes(heights), [coco_mask.toBbox(rle) for rle in rles])


@settings(max_examples=60, deadline=None)
@given(st.lists(BITMAPS, min_size=1, max_size=8))
def test_areas_and_boxes_of_noise(sizes: list[tuple[int, int, int, float]]) -> None:
    assert_as_pycocotools([random_bitmap(*size) for size in sizes])


def test_areas_and_boxes_of_discs_empty_and_full_masks() -> None:
    large = rows.discs(5, height=700, width=900)
    assert_as_pycocotools(
        [*large, np.zeros((5, 7), bool), np.ones((5, 7), bool), np.ones((1, 1), bool), *rows.discs(20)]
    )


@pytest.mark.parametrize("counts", [[9, 0, 2, 4, 5, 0], [0, 0, 5, 3, 12], [5, 3, 0, 0, 12], [0, 0, 20]])
def test_runs_without_length_are_no_part_of_a_box(counts: list[int]) -> None:
    """As other programs may write them."""
    entry = coco_mask.frPyObjects({"size": [4, 5], "counts": counts}, 4, 5)
    runs = parse_runs(pa.array([entry["counts"]]))
    assert runs.lengths.tolist() == counts
    y, x = np.nonzero(coco_mask.decode(entry))
    box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] if len(x) else [0] * 4
    assert (runs.areas.tolist(), runs.boxes(np.array([4])).tolist()) == ([len(x)], [box])


@pytest.mark.parametrize("seed", range(4))
def test_runs_alternate_down_the_columns_from_background(seed: int) -> None:
    bitmap = random_bitmap(20, 30, seed, 0.5)
    down = bitmap.ravel(order="F")
    expected = [0] * bool(down[0]) + [len(list(run)) for _, run in itertools.groupby(down)]
    assert parse_runs(pa.array([encode(bitmap)["counts"]])).lengths.tolist() == expected


def test_slices_and_chunks_of_a_column() -> None:
    column = pa.array([encode(bitmap)["counts"] for bitmap in rows.discs(12)])
    whole = parse_runs(column).areas
    np.testing.assert_array_equal(parse_runs(column[3:9]).areas, whole[3:9])
    np.testing.assert_array_equal(parse_runs(pa.chunked_array([column[:5], column[5:]])).areas, whole)
    assert len(parse_runs(column[:0])) == 0
    assert parse_runs(column[:0]).boxes(np.zeros(0, np.int64)).shape == (0, 4)


@pytest.mark.parametrize("at_once", [1, 64, 1 << 20])
def test_measures_of_a_column_in_parts(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    rles = [encode(bitmap) for bitmap in [*rows.discs(20), *rows.discs(9, height=7, width=500), np.zeros((3, 4), bool)]]
    column, heights = pa.array([rle["counts"] for rle in rles]), np.array([rle["size"][0] for rle in rles])
    whole = parse_runs(column)
    monkeypatch.setattr("schemas.rle._BYTES_AT_ONCE", at_once)
    found, runs = measure(column, heights), parse_runs(column)
    np.testing.assert_array_equal(found.pixels, [np.prod(rle["size"]) for rle in rles])
    np.testing.assert_array_equal(found.areas, [coco_mask.area(rle) for rle in rles])
    np.testing.assert_array_equal(found.boxes, [coco_mask.toBbox(rle) for rle in rles])
    np.testing.assert_array_equal(runs.lengths, whole.lengths)
    np.testing.assert_array_equal(runs.first, whole.first)
    assert measure(column[:0], heights[:0]).boxes.shape == (0, 4)


def test_memory_does_not_grow_with_the_masks_that_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard may have 512 photographs with 20 KB of run lengths each, or with 5 MB."""
    monkeypatch.setattr("schemas.rle._BYTES_AT_ONCE", 1 << 14)
    column, peaks = pa.array([encode(bitmap)["counts"] for bitmap in rows.discs(9, height=90, width=90)] * 1000), []
    for some in (column[:3000], column):
        tracemalloc.start()
        measure(some, np.full(len(some), 90))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


@pytest.mark.parametrize("at_once", [1, 1 << 20])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"52\xff", "holds the byte 255"),
        (b"5 2", "holds the byte 32"),
        (b"5P", "is cut off in the middle of a number"),
        (b"PPPPPPPP0", "more than 35 bits"),
        (b"O", "negative run length"),
    ],
)
def test_what_is_no_rle_is_refused_with_its_row(
    monkeypatch: pytest.MonkeyPatch, text: bytes, message: str, at_once: int
) -> None:
    monkeypatch.setattr("schemas.rle._BYTES_AT_ONCE", at_once)
    with pytest.raises(RleError, match=f"rle of row 1 .*{message}") as caught:
        parse_runs(pa.array([b"52203", text, b"52203"]))
    assert caught.value.row == 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=12), min_size=1, max_size=4))
def test_any_bytes_are_parsed_or_refused(texts: list[bytes]) -> None:
    try:
        runs = parse_runs(pa.array(texts, pa.binary()))
    except RleError:
        return
    assert (runs.lengths >= 0).all()
    assert (runs.areas <= runs.pixels).all()
