# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""What the kernels of a model share: constants, and how attention holds a head's channels and writes its output."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

LEAST = 16
"""The narrowest matrix that a product takes."""
LOG2_E = tl.constexpr(1.4426950408889634)


def blocks(c: int) -> dict[str, int]:
    """How kernels hold the c channels of a head: MAIN of them and the REST, which may be none.

    80 channels are 64 and 16 rather than 128, of which three eighths would be zeros.
    """
    main = max(LEAST, 1 << (c.bit_length() - 1))
    return {"MAIN": main, "REST": max(LEAST, triton.next_power_of_2(c - main)) if c > main else 0}


def output_for(qkv: Tensor) -> Tensor:
    """Memory for what attention makes of qkv [B, h, w, 3C]: [B, h, w, C]."""
    return qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)


@triton.jit
def store(here, values, mask):
    """Values in the dtype of where they go."""
    tl.store(here, values.to(here.dtype.element_ty), mask=mask)
