"""Attention in the windows of a grid on a CPU, one window at a time, so that all of it stays in the cache.

Queries, keys and values of a window are gathered from where the linear layer left them, and results are put where the
next one wants them. Cutting out all windows at once, with positions in extra channels (`relative_attention.attend`),
takes three times as long.

A query meets the 2 s - 1 relative positions of each axis in one product, of which its s * s keys need s; the pass that
exponentiates scores picks them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam_core.machine_code import reordered
from sam_core.model.blocked_attention import LOWEST, Floats
from sam_core.model.vector_math import exp

LANES = 16
"""Running maxima side by side: LLVM makes vectors of several, but not of one."""


def attend_in_windows(qkv: Tensor, outside: Tensor, row_table: Tensor, column_table: Tensor, size: int) -> Tensor:
    """Attention with relative positions in windows that begin at the top left and may reach beyond the grid.

    Args:
        qkv: float32 [B, h, w, 3, H, c] on the CPU, contiguous: queries, keys and values of H heads.
        outside: [3, H, c], the same of a position outside of the grid.
        row_table, column_table: [2 * size - 1, c], relative positions along y and x, from -(size - 1) on.
        size: of the windows.

    Returns:
        [B, h, w, H, c].
    """
    b, h, w, _, heads, c = qkv.shape
    length, tables = size * size, torch.cat([row_table, column_table]).T.contiguous()
    q, k, v, mixed = qkv.new_empty(4, heads, length, c).unbind()
    scores, sums = qkv.new_empty(heads, length, length), qkv.new_empty(heads, length)
    terms = qkv.new_empty(heads * length, tables.shape[1])
    out = qkv.new_empty(b, h, w, heads, c)
    held, scale = [x.numpy() for x in (q, k, v)], np.float32(c**-0.5)
    for grid, answer in zip(qkv.numpy(), out.numpy(), strict=True):
        for top in range(0, h, size):
            for left in range(0, w, size):
                _gather(grid[top:, left:], outside.numpy(), size, *held)
                torch.mm(q.view(-1, c), tables, out=terms)
                torch.bmm(q, k.transpose(1, 2), out=scores)
                _exponentiate(scores.numpy(), terms.view(heads, length, -1).numpy(), size, scale, sums.numpy())
                torch.bmm(scores, v, out=mixed)
                _scatter(mixed.numpy(), sums.numpy(), size, answer[top:, left:])
    return out


@reordered
def _gather(grid: Floats, outside: Floats, size: Any, q: Floats, k: Floats, v: Floats) -> None:
    """The window at the top left of grid [h, w, 3, H, c] into q, k and v, [H, size * size, c] each."""
    for y in range(size):
        for x in range(size):
            i, here = y * size + x, y < grid.shape[0] and x < grid.shape[1]
            for head in range(grid.shape[3]):
                for channel in range(grid.shape[4]):
                    q[head, i, channel] = grid[y, x, 0, head, channel] if here else outside[0, head, channel]
                    k[head, i, channel] = grid[y, x, 1, head, channel] if here else outside[1, head, channel]
                    v[head, i, channel] = grid[y, x, 2, head, channel] if here else outside[2, head, channel]


@reordered
def _exponentiate(scores: Floats, terms: Floats, size: Any, scale: np.float32, sums: Floats) -> None:
    """Overwrites scores [H, L, L] with exp(scale * score + positions - their maximum), and sums [H, L] with one over
    the sum of each; terms: [H, L, 2 * (2 * size - 1)], a query's products with both tables."""
    length, span = scores.shape[1], 2 * size - 1
    whole = length // LANES * LANES
    place, tops = np.empty(length, np.float32), np.empty(LANES, np.float32)
    for head in range(len(scores)):
        for i in range(length):
            own, line = terms[head, i], scores[head, i]
            y, x = i // size, i % size
            for row in range(size):
                for column in range(size):
                    place[row * size + column] = own[y - row + size - 1] + own[span + x - column + size - 1]
            for j in range(length):
                line[j] = line[j] * scale + place[j]
            tops[:] = LOWEST
            for start in range(0, whole, LANES):
                for lane in range(LANES):
                    tops[lane] = max(tops[lane], line[start + lane])
            top = LOWEST
            for lane in range(LANES):
                top = max(top, tops[lane])
            for j in range(whole, length):
                top = max(top, line[j])
            total = np.float32(0)
            for j in range(length):
                value = exp(line[j] - top)
                line[j] = value
                total += value
            sums[head, i] = np.float32(1) / total


@reordered
def _scatter(mixed: Floats, sums: Floats, size: Any, out: Floats) -> None:
    """What of mixed [H, size * size, c] times sums [H, size * size] lies inside, to the top left of [h, w, H, c]."""
    for y in range(min(size, out.shape[0])):
        for x in range(min(size, out.shape[1])):
            for head in range(out.shape[2]):
                share = sums[head, y * size + x]
                for channel in range(out.shape[3]):
                    out[y, x, head, channel] = mixed[head, y * size + x, channel] * share
