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

from sam_core.model.relative_attention import attend, position_terms

LARGE = 1024
"""Positions from which the kernel is the faster way."""
QUERIES = 128
"""Queries of a program."""
LOG2_E = tl.constexpr(1.4426950408889634)


def attend_triton(q: Tensor, k: Tensor, v: Tensor, along_h: Tensor, along_w: Tensor) -> Tensor:
    """As `relative_attention.attend`: q, k, v [B, heads, h * w, c], along_h [h, h, c], along_w [w, w, c] -> like q."""
    if q.shape[2] < LARGE:
        return attend(q, k, v, along_h, along_w)
    out: Tensor = on_large_grid(q, k, v, *position_terms(q, along_h, along_w))
    return out


@torch.library.custom_op("sam_core::on_large_grid", mutates_args=())
def on_large_grid(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Attention of q, k, v [B, heads, h * w, c] whose scores have by_row [..., h * w, h] and by_column [..., h * w, w]
    added: like q, with the heads of a position together in memory."""
    b, heads, positions, c = q.shape
    h, w = by_row.shape[-1], by_column.shape[-1]
    out = _output_for(q)
    by_row, by_column = by_row.contiguous(), by_column.contiguous()
    _attend[(triton.cdiv(positions, QUERIES), b * heads)](
        q, k, v, by_row, by_column, out,
        *q.stride(), *k.stride(), *v.stride(), *out.stride(),
        heads, positions, h, w, c, LOG2_E.value * c**-0.5,
        QUERIES=QUERIES, WIDTH=max(16, triton.next_power_of_2(w)), C=max(16, triton.next_power_of_2(c)),
        num_warps=8, num_stages=3,
    )  # fmt: skip
    return out


@on_large_grid.register_fake
def _(q: Tensor, *_: Tensor) -> Tensor:
    return _output_for(q)


def _output_for(q: Tensor) -> Tensor:
    b, heads, positions, c = q.shape
    return q.new_empty(b, positions, heads, c).transpose(1, 2)


@triton.jit
def _attend(
    q_ptr, k_ptr, v_ptr, row_ptr, column_ptr, out_ptr,
    q_b, q_head, q_at, q_c, k_b, k_head, k_at, k_c, v_b, v_head, v_at, v_c, out_b, out_head, out_at, out_c,
    heads, positions, h, w, c, scale, QUERIES: tl.constexpr, WIDTH: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Some queries of one head: a row of keys at a time, softmax by running maximum and sum (Dao et al. 2022)."""
    head, b = tl.program_id(1) % heads, (tl.program_id(1) // heads).to(tl.int64)
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    column, channel = tl.arange(0, WIDTH), tl.arange(0, C)
    asks, seen, own = query < positions, column < w, channel < c
    q_here = q_ptr + b * q_b + head * q_head + query[:, None] * q_at + channel[None, :] * q_c
    q = tl.load(q_here, mask=asks[:, None] & own[None, :], other=0.0)
    line = (tl.program_id(1).to(tl.int64) * positions + query) * w
    by_column = tl.load(column_ptr + line[:, None] + column[None, :], mask=asks[:, None] & seen[None, :], other=0.0)
    by_column = tl.where(seen[None, :], by_column.to(tl.float32) * LOG2_E, float("-inf"))
    row_here = row_ptr + (tl.program_id(1).to(tl.int64) * positions + query) * h
    k_here = k_ptr + b * k_b + head * k_head + column[None, :] * k_at + channel[:, None] * k_c
    v_here = v_ptr + b * v_b + head * v_head + column[:, None] * v_at + channel[None, :] * v_c
    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    total, mixed = tl.zeros([QUERIES], tl.float32), tl.zeros([QUERIES, C], tl.float32)
    for row in range(h):
        k = tl.load(k_here + row * w * k_at, mask=own[:, None] & seen[None, :], other=0.0)
        by_row = tl.load(row_here + row, mask=asks, other=0.0).to(tl.float32) * LOG2_E
        scores = tl.dot(q, k, input_precision="ieee") * scale + (by_column + by_row[:, None])
        above = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - above[:, None])
        shrink = tl.exp2(largest - above)
        total = total * shrink + tl.sum(weights, 1)
        v = tl.load(v_here + row * w * v_at, mask=seen[:, None] & own[None, :], other=0.0)
        mixed = tl.dot(weights.to(v.dtype), v, mixed * shrink[:, None], input_precision="ieee")
        largest = above
    out_here = out_ptr + b * out_b + head * out_head + query[:, None] * out_at + channel[None, :] * out_c
    tl.store(out_here, (mixed / total[:, None]).to(out_ptr.dtype.element_ty), mask=asks[:, None] & own[None, :])
