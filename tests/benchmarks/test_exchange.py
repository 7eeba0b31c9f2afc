"""The comparison of exports finds what it must find."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import exchange
from tests.benchmarks.exchange import Options, compare

MASK = (2, 2, b"13")  # one pixel of background, three of mask


@pytest.mark.slow
def test_a_few_real_masks_come_back(sample_data: Callable[[str], Path]) -> None:
    sample_data("coco128")
    root = sample_data("bbbc038").parent
    record = exchange.run(Options(root, images=3, formats=("sa1b", "labels")))
    assert record["formats"]["labels"]["masks"] == record["formats"]["sa1b"]["masks"] + 929


def test_what_does_not_come_back_is_found() -> None:
    assert compare(iter([("a", MASK)]), {"a": MASK}) == 1
    with pytest.raises(ValueError, match="mask a came back changed"):
        compare(iter([("a", (2, 2, b"22"))]), {"a": MASK})
    with pytest.raises(ValueError, match="1 masks did not come back"):
        compare(iter([(None, MASK)]), {"a": MASK, "b": MASK})
