"""Tables of bilinear resizing, one axis at a time: which two source positions a target position is made from.

The numbers are those of `torch.nn.functional.interpolate(..., mode="bilinear", align_corners=False)`, bit for bit.
Which these are depends on how torch was compiled, and which of its kernels the processor gets: some, and CUDA, round a
source position once, others twice.
"""

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from sam_core.geometry import Frame

Floats = NDArray[np.float32]


class Resize(NamedTuple):
    """One axis of a resize: target[i] = source[low[i]] * low_weight[i] + source[high[i]] * high_weight[i].

    low and high are uint32: the compiler checks signed indices for being negative and then cannot vectorise.
    """

    low: NDArray[np.uint32]
    high: NDArray[np.uint32]
    low_weight: Floats
    high_weight: Floats


class Axis(NamedTuple):
    """One axis of a frame: low-resolution logits to the model input without its padding, and that to the crop."""

    to_input: Resize
    to_crop: Resize


def axes(frame: Frame, *, low_res: tuple[int, int]) -> tuple[Axis, Axis]:
    """Rows and columns, from logits of the size `low_res` (height, width) to the crop, as `upscale_logits` has them."""
    rows, columns = (
        Axis(to_input=resize(low, frame.image_size, kept=inputs), to_crop=resize(inputs, crop, kept=crop))
        for low, inputs, crop in zip(low_res, frame.input_size, frame.crop_size, strict=True)
    )
    return rows, columns


@lru_cache(maxsize=1024)  # crops of a few sizes, again and again
def resize(source: int, target: int, *, kept: int, fused: bool | None = None) -> Resize:
    """The first `kept` positions of a resize from `source` to `target` pixels whose corners are not aligned.

    fused: a source position is rounded to float32 once, as by a fused multiply-add, rather than after each step; as
    torch does on the CPU if not given.
    """
    once = fuses() if fused is None else fused
    places: NDArray[Any] = (np.arange(kept) + 0.5).astype(np.float64 if once else np.float32)
    centre = (np.float32(source) / np.float32(target) * places - np.float32(0.5)).clip(0).astype(np.float32)
    low = np.minimum(centre.astype(np.uint32), np.uint32(source - 1))
    high = np.minimum(low + np.uint32(1), np.uint32(source - 1))
    high_weight = (centre - low.astype(np.float32)).clip(0, 1)
    return Resize(low, high, np.float32(1) - high_weight, high_weight)


@cache
def fuses() -> bool:
    """Whether torch fuses here, on the CPU: told by a resize that shows the weight of whichever source is odd."""
    source, target = 170, 200
    table = resize(source, target, kept=target, fused=True)
    theirs = F.interpolate(torch.arange(source)[None, None] % 2.0, target, mode="linear", align_corners=False)[0, 0]
    ours = np.where(table.high % 2, table.high_weight, table.low_weight)
    apart = table.low < table.high
    return np.array_equal(ours[apart], theirs.numpy()[apart])
