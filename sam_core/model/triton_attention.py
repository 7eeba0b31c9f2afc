# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Attention on a grid with decomposed relative positions, as one Triton kernel: for large grids on a GPU.

Keys go by row of the grid. To the scores of a row a query adds one number for the row, and for the columns numbers that
are the same in every row and stay in registers. Nothing of the size of the scores is stored, and no channels are added
to queries, keys and values as in `relative_attention.attend`, which takes small grids, where those cost little.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sam_core.model.relative_attention import RelativeAttention, attend_grid, position_terms, split, tables_of
from sam_core.model.triton_shared import LEAST, LOG2_E, blocks, output_for, store
from sam_core.model.triton_tiling import Tiled, Tiling
from sam_core.model.triton_window_attention import in_windows

LARGE = 1024
"""Positions from which the kernel is the faster way."""


def attend_triton(layer: RelativeAttention, qkv: Tensor, window: int) -> Tensor:
    """As `relative_attention.attend_layer`."""
    if window:
        row_table, column_table = (table.to(qkv.dtype) for table in tables_of(layer, window))
        inside: Tensor = in_windows(qkv, layer.qkv.bias.to(qkv.dtype), row_table, column_table, layer.num_heads, window)
        return inside
    if qkv.shape[1] * qkv.shape[2] < LARGE:
        return attend_grid(layer, qkv)
    q, _, _, along_h, along_w = split(layer, qkv)
    out: Tensor = on_large_grid(qkv, *position_terms(q, along_h, along_w))
    return out


@torch.library.custom_op("sam_core::on_large_grid", mutates_args=())
def on_large_grid(qkv: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Attention over the whole grid.

    Args:
        qkv: [B, h, w, 3 * C], queries, keys and values of all heads; contiguous.
        by_row: [B, heads, h * w, h], added to the scores of a query for all keys of a row.
        by_column: [B, heads, h * w, w], the same for columns.

    Returns:
        [B, h, w, C].
    """
    b, h, w, _ = qkv.shape
    heads, out = by_row.shape[1], output_for(qkv)
    c = out.shape[3] // heads
    GRID.launch(
        lambda sizes: (triton.cdiv(h * w, sizes["QUERIES"]), b * heads),
        qkv, by_row.contiguous(), by_column.contiguous(), out, heads, h, w, c, LOG2_E.value * c**-0.5,
        WIDTH=max(LEAST, triton.next_power_of_2(w)), **blocks(c),
    )  # fmt: skip
    return out


@on_large_grid.register_fake
def _(qkv: Tensor, *_: Tensor) -> Tensor:
    return output_for(qkv)


@triton.jit
def _attend(
    qkv_ptr, row_ptr, column_ptr, out_ptr, heads, h, w, c, scale,
    QUERIES: tl.constexpr, WIDTH: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Some queries of one head: a row of keys at a time, softmax by running maximum and sum (Dao et al. 2022)."""
    positions, dim = h * w, heads * c
    head, first = tl.program_id(1) % heads, (tl.program_id(1) // heads).to(tl.int64) * positions
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    column, channel = tl.arange(0, WIDTH), tl.arange(0, MAIN)
    asks, seen, own = query < positions, column < w, channel < c
    here = qkv_ptr + first * 3 * dim + head * c
    q_here = here + query[:, None] * 3 * dim
    k_here = here + dim + column[None, :] * 3 * dim
    v_here = here + 2 * dim + column[:, None] * 3 * dim
    out_here = out_ptr + first * dim + head * c + query[:, None] * dim
    q = tl.load(q_here + channel[None, :], mask=asks[:, None] & own[None, :], other=0.0)
    mixed = tl.zeros([QUERIES, MAIN], tl.float32)
    more, q_rest, mixed_rest = channel, q, mixed
    if REST:
        more = MAIN + tl.arange(0, REST)
        q_rest = tl.load(q_here + more[None, :], mask=asks[:, None] & (more < c)[None, :], other=0.0)
        mixed_rest = tl.zeros([QUERIES, REST], tl.float32)
    line = (tl.program_id(1).to(tl.int64) * positions + query) * w
    by_column = tl.load(column_ptr + line[:, None] + column[None, :], mask=asks[:, None] & seen[None, :], other=0.0)
    by_column = tl.where(seen[None, :], by_column.to(tl.float32) * LOG2_E, float("-inf"))
    row_here = row_ptr + (tl.program_id(1).to(tl.int64) * positions + query) * h
    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    for row in range(h):
        k_row, v_row = k_here + row * w * 3 * dim, v_here + row * w * 3 * dim
        k = tl.load(k_row + channel[:, None], mask=own[:, None] & seen[None, :], other=0.0)
        scores = tl.dot(q, k, input_precision="ieee")
        if REST:
            k = tl.load(k_row + more[:, None], mask=(more < c)[:, None] & seen[None, :], other=0.0)
            scores = tl.dot(q_rest, k, scores, input_precision="ieee")
        by_row = tl.load(row_here + row, mask=asks, other=0.0).to(tl.float32) * LOG2_E
        scores = scores * scale + (by_column + by_row[:, None])
        above = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - above[:, None])
        shrink = tl.exp2(largest - above)
        total = total * shrink + tl.sum(weights, 1)
        weights = weights.to(q.dtype)
        v = tl.load(v_row + channel[None, :], mask=seen[:, None] & own[None, :], other=0.0)
        mixed = tl.dot(weights, v, mixed * shrink[:, None], input_precision="ieee")
        if REST:
            v = tl.load(v_row + more[None, :], mask=seen[:, None] & (more < c)[None, :], other=0.0)
            mixed_rest = tl.dot(weights, v, mixed_rest * shrink[:, None], input_precision="ieee")
        largest = above
    store(out_here + channel[None, :], mixed / total[:, None], asks[:, None] & own[None, :])
    if REST:
        store(out_here + more[None, :], mixed_rest / total[:, None], asks[:, None] & (more < c)[None, :])


GRID = Tiled(_attend, Tiling({"QUERIES": 64}, 4, 3), Tiling({"QUERIES": 64}, 4, 2))
"""On an H100 64 queries are faster than 128 and 256, 4 warps than 8, and 3 stages than 2."""
