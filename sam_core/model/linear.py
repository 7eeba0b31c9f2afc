"""Linear layers on a CPU, by whichever library multiplies faster there.

Torch has float32 multiplied by MKL, made for processors of Intel. On an AMD of the fourth Zen generation oneDNN, which
torch has beside it for other things, takes 6 to 16 % less time for the layers of an image encoder
(`tests/benchmarks/LOG.md`).
"""

from functools import cache

import torch
from llvmlite.binding import get_host_cpu_name
from torch import Tensor, nn

from sam_core.model.vector_math import can_compile

_LIKE_THE_MEASURED = ("znver4", "znver5")


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """layer(x): [..., C] -> [..., D], up to the rounding of float32."""
    if can_compile(x) and has_faster_products():
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")  # type: ignore[no-any-return]
    out: Tensor = layer(x)
    return out


@cache
def has_faster_products() -> bool:
    """Whether this is an AMD processor like the one that was measured, with vectors of 512 bits, and a torch that has
    oneDNN's linear layer (the one that its compiler uses)."""
    return get_host_cpu_name() in _LIKE_THE_MEASURED and hasattr(torch.ops.mkldnn, "_linear_pointwise")
