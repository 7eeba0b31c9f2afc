"""Tables of bilinear resizing, one axis at a time: which two source positions a target position is made from.

The numbers are those of `torch.nn.functional.interpolate(..., mode="bilinear", align_corners=False)`, bit for bit.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
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
def resize(source: int, target: int, *, kept: int) -> Resize:
    """The first `kept` positions of a resize from `source` to `target` pixels whose corners are not aligned."""
    scale = np.float64(np.float32(source) / np.float32(target))
    # Rounded to float32 only once, as by a fused multiply-add.
    centre = (scale * (np.arange(kept) + 0.5) - 0.5).clip(0).astype(np.float32)
    low = np.minimum(centre.astype(np.uint32), np.uint32(source - 1))
    high = np.minimum(low + np.uint32(1), np.uint32(source - 1))
    high_weight = (centre - low.astype(np.float32)).clip(0, 1)
    return Resize(low, high, np.float32(1) - high_weight, high_weight)
