"""Masks as run lengths against the same ones as pixels."""

from __future__ import annotations

import tracemalloc

import numpy as np

from sam_core.masks.packed import PackedMasks


def test_what_is_packed_is_what_is_unpacked() -> None:
    masks = np.random.default_rng(0).random((5, 7, 9)) < 0.4
    packed = PackedMasks.of(masks)
    assert (packed.size, len(packed)) == ((7, 9), 5)
    np.testing.assert_array_equal(packed.dense(), masks)
    np.testing.assert_array_equal(list(packed), masks)
    np.testing.assert_array_equal(packed[1:3].dense(), masks[1:3])
    np.testing.assert_array_equal(packed.at(np.array([4, 0])).dense(), masks[[4, 0]])
    assert packed[:0].dense().shape == (0, 7, 9)


def test_many_masks_take_the_memory_of_one() -> None:
    one = np.zeros((1, 1000, 1000), np.bool_)
    one[0, 100:200, 300:500] = True
    packed = PackedMasks((1000, 1000), PackedMasks.of(one).rles * 200)
    tracemalloc.start()
    assert sum(int(mask.sum()) for mask in packed) == 200 * 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6  # 200 MB as pixels
