"""Run-lengths against pycocotools and the released encoder."""

from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from sam_core.masks import rle

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40))


def pycocotools_encode(mask: np.ndarray) -> bytes:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


@settings(deadline=None, derandomize=True)
@given(MASKS)
def test_encoding_is_that_of_pycocotools(mask: np.ndarray) -> None:
    assert rle.encode(mask) == pycocotools_encode(mask)


@settings(deadline=None, derandomize=True)
@given(MASKS)
def test_decoding_restores_the_mask(mask: np.ndarray) -> None:
    packed = rle.encode(mask)
    assert np.array_equal(rle.decode(packed, mask.shape), mask)
    assert rle.area(packed) == mask.sum()


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=20))
def test_long_runs_survive_compression(runs: list[int]) -> None:
    packed = rle.compress(np.array(runs))
    assert rle.decompress(packed).tolist() == runs


@pytest.mark.parametrize("runs", [[2**31 - 9, 4, 5], [7, 2**30, 15, 16, 2**30, 1, 0, 31, 32, 1023, 1024]])
def test_long_runs_are_compressed_as_pycocotools_does(runs: list[int]) -> None:
    expected = coco.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))["counts"]
    assert rle.compress(np.array(runs)) == expected


@settings(deadline=None, derandomize=True)
@given(st.lists(MASKS, max_size=5))
def test_many_masks_at_once_are_each_by_itself(masks: list[np.ndarray]) -> None:
    runs = [rle.run_lengths(mask) for mask in masks]
    lengths, first = rle.joined(runs)
    assert [lengths[a:b].tolist() for a, b in pairwise(first)] == [each.tolist() for each in runs]
    assert rle.compress_all(lengths, first) == [pycocotools_encode(mask) for mask in masks]


def test_masks_of_one_size_are_unpacked_together() -> None:
    masks = [np.random.default_rng(seed).random((30, 40)) < seed / 9 for seed in range(10)]
    expected, starts = rle.joined([rle.run_lengths(mask) for mask in masks])
    lengths, first = rle.decompress_all([rle.encode(mask) for mask in masks], (30, 40))
    assert lengths.tolist() == expected.tolist()
    assert first.tolist() == starts.tolist()
    np.testing.assert_array_equal(rle.unpack_all(lengths, first, (30, 40)), masks)
    with pytest.raises(ValueError, match="run lengths of 12 px do not fit a mask of 40x30 px"):
        rle.decompress_all([rle.encode(masks[0]), rle.encode(np.ones((3, 4), bool))], (30, 40))
    for broken in (b"", b"5P", b"\xff"):
        with pytest.raises(ValueError, match="not run lengths"):
            rle.decompress_all([rle.encode(masks[0]), broken, rle.encode(masks[1])], (30, 40))


def test_no_runs_are_no_text() -> None:
    runs = [np.array([4]), np.array([], np.int64), np.array([0, 4])]
    assert rle.compress_all(*rle.joined(runs)) == [b"4", b"", b"04"]


@pytest.mark.parametrize("mask", [np.zeros((2, 3, 4), bool), np.zeros((3, 4), np.uint8), np.zeros(4, bool)])
def test_what_is_no_mask_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a mask is bool \[H, W\], not (bool|uint8) \["):
        rle.encode(mask)


def test_counts_of_a_json_are_text() -> None:
    with pytest.raises(ValueError, match=r"counts are bytes, not str; those of a JSON need \.encode\(\)"):
        rle.decode("04", (2, 2))  # type: ignore[arg-type]


def test_runs_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="run lengths of 12 px do not fit a mask of 5x3 px"):
        rle.decode(rle.encode(np.ones((3, 4), bool)), (3, 5))


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_runs_are_those_of_the_released_code(amg: ModuleType, seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((7, 11)) < density
    (released,) = amg.mask_to_rle_pytorch(torch.from_numpy(mask)[None])
    assert rle.run_lengths(mask).tolist() == released["counts"]


@pytest.mark.parametrize(
    ("mask", "runs"),
    [
        ([[0]], [1]),
        ([[1]], [0, 1]),
        ([[0, 1], [0, 1]], [2, 2]),
        ([[1, 1], [0, 0]], [0, 1, 1, 1, 1]),
    ],
)
def test_runs_read_columns_and_begin_with_background(mask: list[list[int]], runs: list[int]) -> None:
    assert rle.run_lengths(np.array(mask, dtype=bool)).tolist() == runs


@pytest.mark.parametrize("text", [b"", b"P", b"5P", b"\xff", b"5 2", b"PPPPPPPPPPPPPPP0", b"O", b"0O", b"o" * 40])
def test_text_that_is_no_run_lengths_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"run lengths"):
        rle.decode(text, (3, 4))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=24))
def test_any_bytes_are_a_mask_or_refused(text: bytes) -> None:
    try:
        mask = rle.decode(text, (3, 4))
    except ValueError:
        return
    assert mask.shape == (3, 4)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (0, 4)])
def test_labels_are_encoded_in_one_sweep_as_one_by_one(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    for most in (1, 2, 4, 300):
        labels = rng.integers(0, most, size).astype(np.uint16)
        one_by_one = {int(value): rle.encode(labels == value) for value in np.unique(labels) if value}
        assert list(rle.encode_labels(labels).items()) == list(one_by_one.items())
    whole = np.full((3, 2), 9)
    assert rle.encode_labels(whole) == {9: rle.encode(whole == 9)}
