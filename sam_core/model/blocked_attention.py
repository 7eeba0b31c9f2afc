"""Attention over a large grid on a CPU, a block of queries at a time, so that scores stay in the cache.

Two products and one compiled pass per block: the pass adds the relative positions while it exponentiates. Where
positions travel in extra channels of q and k instead, as in `relative_attention.attend`, products are larger.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.machine_code import reordered
from sam_core.model.vector_math import exp

QUERIES = 128
"""Queries of a block: with 4096 keys their scores take 2 MB."""
LOWEST = np.float32(-3e38)
"""Less than any score."""

Floats = NDArray[np.float32]


def attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Attention with additive relative positions.

    Args:
        q, k, v: float32 [N, L, c] on the CPU, L = h * w positions in rows, q already divided by sqrt(c).
        by_row: [N, L, h], what a query adds to its score for a key in each row.
        by_column: [N, L, w], the same for columns.

    Returns:
        [N, L, c].
    """
    out = torch.empty_like(q)
    block = min(QUERIES, q.shape[1])
    scores, sums = q.new_empty(block, k.shape[1]), q.new_empty(block)
    for n in range(len(q)):
        keys = k[n].T
        for start in range(0, q.shape[1], block):
            rows = slice(start, min(start + block, q.shape[1]))
            count = rows.stop - start
            part, total = scores[:count], sums[:count]
            torch.mm(q[n, rows], keys, out=part)
            on_grid = part.view(count, by_row.shape[2], by_column.shape[2])
            exponentiate(*(x.numpy() for x in (on_grid, by_row[n, rows], by_column[n, rows], total)))
            torch.mm(part, v[n], out=out[n, rows])
            out[n, rows] /= total[:, None]
    return out


@reordered
def exponentiate(scores: Floats, by_row: Floats, by_column: Floats, sums: Floats) -> None:
    """Overwrites scores [Q, h, w] with exp(score + positions - their maximum), and sums [Q] with the sum of each.

    The maximum is taken column by column first: LLVM makes vectors of that, but not of one running maximum.
    """
    height, width = by_row.shape[1], by_column.shape[1]
    tops = np.empty(width, np.float32)
    for i in range(len(scores)):
        tops[:] = LOWEST
        for row in range(height):
            shift = by_row[i, row]
            for column in range(width):
                tops[column] = max(tops[column], scores[i, row, column] + shift)
        top = LOWEST
        for column in range(width):
            top = max(top, tops[column] + by_column[i, column])
        total = np.float32(0)
        for row in range(height):
            shift = by_row[i, row] - top
            for column in range(width):
                value = exp(scores[i, row, column] + by_column[i, column] + shift)
                scores[i, row, column] = value
                total += value
        sums[i] = total
