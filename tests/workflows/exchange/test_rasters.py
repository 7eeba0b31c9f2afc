"""Masks out of pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError
from typing import Any

import numpy as np
import pytest

from sam_core.masks.rle import decode, encode
from workflows.exchange.readers import rasters


def opaque(height: int, width: int) -> list[int]:
    """A brush over a whole picture, packed: one block of so many equal values."""
    count = 4 * height * width
    bits = f"{count:032b}" + f"{7:05b}" + f"{15:04b}" * 4 + "1" + "00" + f"{count - 1:016b}" + f"{255:08b}"
    return [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]


def test_a_brush_and_the_runs_of_a_box() -> None:
    assert decode(rasters.brush_rle(opaque(3, 4), height=3, width=4), (3, 4)).all()
    found = decode(rasters.box_runs_rle([1, 2, 1], (1, 0, 2, 2), height=3, width=4), (3, 4))
    assert found.tolist() == [[False, False, True, False], [False, True, False, False], [False] * 4]


def test_pictures_of_masks_are_not_in_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document of 5 MB that stated 14,000 px for each of 24 small pictures took 21 GB, sixteen at a time."""
    together = Barrier(2)

    def met(mask: np.ndarray[Any, Any]) -> bytes:
        with pytest.raises(BrokenBarrierError):
            together.wait(0.1)
        return encode(mask)

    monkeypatch.setattr(rasters, "encode", met)
    with ThreadPoolExecutor(2) as readers:
        brush = readers.submit(rasters.brush_rle, opaque(3, 4), height=3, width=4)
        runs = readers.submit(rasters.box_runs_rle, [0, 12], (0, 0, 4, 3), height=3, width=4)
        assert brush.result() == runs.result()
