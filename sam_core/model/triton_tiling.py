# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Kernels in several sizes, of which the largest that fits is launched: GPUs differ in the memory programs share.

An H100 has 227 KB of it, an A100 163, an L4 or an RTX 4090 99; and float32 takes twice as much as bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from triton.runtime.errors import OutOfResources

Grid = Callable[[dict[str, Any]], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Tiling:
    """What a program of a kernel works on at a time, by the kernel's own names, and how."""

    sizes: dict[str, int]
    warps: int
    stages: int


class Tiled:
    """A kernel with its tilings, the fastest on an H100 first. Remembers which is the first one that fits."""

    def __init__(self, kernel: Any, *tilings: Tiling) -> None:
        self.kernel = kernel
        self.tilings = tilings
        self._first: dict[Hashable, int] = {}

    def launch(self, grid: Grid, *arguments: Any, **constants: Any) -> None:
        """As kernel[grid](*arguments, **constants); the first argument's dtype is that of most of what is held.

        Raises triton's OutOfResources when not even the last tiling fits.
        """
        case = (arguments[0].dtype, tuple(constants.items()))
        for number in range(self._first.get(case, 0), len(self.tilings)):
            tiling = self.tilings[number]
            try:
                self.kernel[grid](
                    *arguments, **constants, **tiling.sizes, num_warps=tiling.warps, num_stages=tiling.stages
                )
            except OutOfResources:
                if number == len(self.tilings) - 1:
                    raise
                continue
            self._first[case] = number
            return
