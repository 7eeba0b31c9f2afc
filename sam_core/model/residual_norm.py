"""Residual, layer norm and positions in one pass over memory: copies were half of the absorbed decoder on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from sam_core.model.vector_math import can_compile, wide_vectors


def residual_norm(
    image: Tensor,
    update: Tensor,
    everywhere: Tensor,
    norm: nn.LayerNorm,
    positions: Tensor,
    placed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """norm(image + update + everywhere), and the same plus positions.

    Args:
        image: [N, L, C], or [1, L, C] shared by all.
        update: [N, L, C] float32; on a CPU its memory is used up.
        everywhere: [N, 1, C], an update of all positions.
        norm: layer norm over C.
        positions: [1, L, C].
        placed: [N, L, C], memory that a CPU may use for the second result, or none.

    Returns:
        Two tensors [N, L, C].
    """
    if can_compile(update):
        placed = torch.empty_like(update) if placed is None else placed
        arrays = (x.numpy() for x in (image, update, everywhere, norm.weight, norm.bias, positions, placed))
        _residual_norm(*arrays, np.float32(norm.eps))
        return update, placed
    out = F.layer_norm(image + (update + everywhere), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return out, out + positions


@njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract", "arcp"})  # type: ignore[untyped-decorator, unused-ignore]
def _residual_norm(
    image: NDArray[np.float32],
    update: NDArray[np.float32],
    everywhere: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    positions: NDArray[np.float32],
    placed: NDArray[np.float32],
    eps: Any,
) -> None:
    """Overwrites update with the norm and placed with the norm plus positions."""
    wide_vectors()
    prompts, length, channels = update.shape
    width = np.float32(channels)
    for n in range(prompts):
        before, constant = image[0 if len(image) == 1 else n], everywhere[n, 0]
        for i in range(length):
            total = np.float32(0)
            for c in range(channels):
                value = before[i, c] + (update[n, i, c] + constant[c])
                update[n, i, c] = value
                total += value
            mean = total / width
            square = np.float32(0)
            for c in range(channels):
                distance = update[n, i, c] - mean
                square += distance * distance
            scale = np.float32(1) / np.sqrt(square / width + eps)
            for c in range(channels):
                value = (update[n, i, c] - mean) * scale * weight[c] + bias[c]
                update[n, i, c] = value
                placed[n, i, c] = value + positions[0, i, c]
