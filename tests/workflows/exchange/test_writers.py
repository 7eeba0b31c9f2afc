"""What no small export shows: how often is rare, and how many masks a label image holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sam_core.masks.rle import encode
from workflows.exchange.writers.coco import LvisWriter
from workflows.exchange.writers.labels import _Layer, _place


@pytest.mark.parametrize(("images", "frequency"), [(1, "r"), (10, "r"), (11, "c"), (100, "c"), (101, "f")])
def test_frequencies_are_those_of_lvis(images: int, frequency: str) -> None:
    writer = object.__new__(LvisWriter)
    writer._categories, writer._counts = {"cat": 1}, {"cat": [images, 200]}
    assert writer._category("cat")["frequency"] == frequency


def test_a_layer_that_is_full_is_followed_by_another() -> None:
    """A label of 65,536 would be 0 in a PNG of 16 bits: the mask would be lost."""
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    row: dict[str, Any] = {"rle": encode(mask), "bbox_x": 2, "bbox_y": 1, "bbox_w": 3, "bbox_h": 2}
    layers = [_Layer(np.zeros((4, 6), np.uint16), masks) for masks in (65_535, 65_534)]
    assert _place(layers, row) == (2, 65_535)
    assert (layers[1].labels == np.where(mask, 65_535, 0)).all()
    assert _place(layers, row) == (3, 1)
    assert not layers[0].labels.any()
