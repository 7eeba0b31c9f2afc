"""Which tiling is launched, with a kernel that fits or does not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from triton.runtime.errors import OutOfResources

from sam_core.model.triton_tiling import Tiled, Tiling


class Kernel:
    """Takes at most `room` bytes: two for each of N, twice as many in float32."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.launched: list[int] = []

    def __getitem__(self, grid: object) -> Callable[..., None]:
        def launch(values: torch.Tensor, **constants: Any) -> None:
            self.launched.append(constants["N"])
            if (needed := constants["N"] * values.element_size()) > self.room:
                raise OutOfResources(needed, self.room, "shared memory")

        return launch


def tiled(room: int) -> tuple[Kernel, Tiled]:
    kernel = Kernel(room)
    return kernel, Tiled(kernel, *(Tiling({"N": n}, 4, 2) for n in (128, 64, 32)))


def test_the_first_that_fits_is_remembered_for_each_dtype() -> None:
    kernel, launcher = tiled(256)
    for dtype in (torch.bfloat16, torch.float32, torch.float32, torch.bfloat16):
        launcher.launch(lambda _: (1,), torch.zeros(1, dtype=dtype))
    assert kernel.launched == [128, 128, 64, 64, 128]


def test_what_fits_nowhere_is_an_error() -> None:
    _, launcher = tiled(10)
    with pytest.raises(OutOfResources):
        launcher.launch(lambda _: (1,), torch.zeros(1))
