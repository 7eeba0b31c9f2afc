"""What no small export shows: how often is rare."""

from __future__ import annotations

import pytest

from workflows.exchange.writers.coco import LvisWriter


@pytest.mark.parametrize(("images", "frequency"), [(1, "r"), (10, "r"), (11, "c"), (100, "c"), (101, "f")])
def test_frequencies_are_those_of_lvis(images: int, frequency: str) -> None:
    writer = object.__new__(LvisWriter)
    writer._categories, writer._counts = {"cat": 1}, {"cat": [images, 200]}
    assert writer._category("cat")["frequency"] == frequency
