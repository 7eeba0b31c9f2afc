# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Attention in the windows of a grid with decomposed relative positions, as one Triton kernel.

Queries, keys and values are read where the linear layer left them, each once, and results are written where the next
one wants them: no windows are cut out, put together or filled up. Queries outside of the grid are not computed. Keys
outside are the bias of the layer: all equal, so a query needs one product for all of them, and values likewise.

A query meets all 2 w - 1 relative positions of an axis in one product, of which it picks the w that its keys need;
products with one-hot rows spread those over the keys.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sam_core.model.triton_shared import LEAST, LOG2_E, blocks, output_for, store
from sam_core.model.triton_tiling import Tiled, Tiling


@torch.library.custom_op("sam_core::in_windows", mutates_args=())
def in_windows(qkv: Tensor, outside: Tensor, row_table: Tensor, column_table: Tensor, heads: int, size: int) -> Tensor:
    """Attention within windows of size x size positions.

    Args:
        qkv: [B, h, w, 3 * C], queries, keys and values of all heads; contiguous.
        outside: [3 * C], the same of a position outside of the grid.
        row_table, column_table: [2 * size - 1, C / heads], relative positions along y and x, from -(size - 1) on.
        heads: of attention.
        size: of the windows, which begin at the top left and may reach beyond the grid.

    Returns:
        [B, h, w, C].
    """
    b, h, w, _ = qkv.shape
    out = output_for(qkv)
    c = out.shape[3] // heads
    across = triton.cdiv(w, size)
    windows = triton.cdiv(h, size) * across
    WINDOWS.launch(
        lambda sizes: (triton.cdiv(size * size, sizes["QUERIES"]), heads, b * windows),
        qkv, outside, row_table.contiguous(), column_table.contiguous(), out,
        h, w, across, windows, heads, c, LOG2_E.value * c**-0.5,
        SIZE=size, SPAN=max(LEAST, triton.next_power_of_2(size)),
        TABLE=max(LEAST, triton.next_power_of_2(2 * size - 1)), **blocks(c),
    )  # fmt: skip
    return out


@in_windows.register_fake
def _(qkv: Tensor, *_: object) -> Tensor:
    return output_for(qkv)


@triton.jit
def _terms(q, q_rest, table_ptr, c, at, SIZE: tl.constexpr, SPAN: tl.constexpr, TABLE: tl.constexpr,
           MAIN: tl.constexpr, REST: tl.constexpr):  # fmt: skip
    """What keys at the SPAN places of one axis add to the scores of queries at places `at`, in units of log2."""
    offset, channel = tl.arange(0, TABLE), tl.arange(0, MAIN)
    here = table_ptr + offset[None, :] * c
    known = (offset < 2 * SIZE - 1)[None, :]
    table = tl.load(here + channel[:, None], mask=known & (channel < c)[:, None], other=0.0)
    products = tl.dot(q, table, input_precision="ieee")
    if REST:
        more = MAIN + tl.arange(0, REST)
        table = tl.load(here + more[:, None], mask=known & (more < c)[:, None], other=0.0)
        products = tl.dot(q_rest, table, products, input_precision="ieee")
    wanted = at[:, None] - tl.arange(0, SPAN)[None, :] + SIZE - 1
    return (tl.gather(products, tl.minimum(tl.maximum(wanted, 0), TABLE - 1), 1) * LOG2_E).to(q.dtype)


@triton.jit
def _attend(
    qkv_ptr, outside_ptr, row_table_ptr, column_table_ptr, out_ptr, height, width, across, windows, heads, c, scale,
    SIZE: tl.constexpr, SPAN: tl.constexpr, TABLE: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr,
    QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Some queries of one head in one window: its keys by and by, softmax by running maximum and sum."""
    head, window = tl.program_id(1), tl.program_id(2) % windows
    image = (tl.program_id(2) // windows).to(tl.int64) * height * width
    top, left = (window // across) * SIZE, (window % across) * SIZE
    tall, wide = tl.minimum(height - top, SIZE), tl.minimum(width - left, SIZE)
    query = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    if tl.program_id(0) * QUERIES < tall * wide:
        dim = heads * c
        own, slot = tl.arange(0, MAIN), tl.arange(0, SPAN)
        asks = query < tall * wide
        y, x = query // wide, query % wide
        at = (top + y) * width + left + x
        q_here = qkv_ptr + image * 3 * dim + (at * 3 * dim + head * c)[:, None]
        q = tl.load(q_here + own[None, :], mask=asks[:, None] & (own < c)[None, :], other=0.0)
        outside = tl.load(outside_ptr + dim + head * c + own, mask=own < c, other=0.0).to(tl.float32)
        beyond = tl.sum(q.to(tl.float32) * outside[None, :], 1)
        mixed = tl.zeros([QUERIES, MAIN], tl.float32)
        q_rest, mixed_rest, more = q, mixed, own
        if REST:
            more = MAIN + tl.arange(0, REST)
            q_rest = tl.load(q_here + more[None, :], mask=asks[:, None] & (more < c)[None, :], other=0.0)
            outside = tl.load(outside_ptr + dim + head * c + more, mask=more < c, other=0.0).to(tl.float32)
            beyond += tl.sum(q_rest.to(tl.float32) * outside[None, :], 1)
            mixed_rest = tl.zeros([QUERIES, REST], tl.float32)
        by_row = _terms(q, q_rest, row_table_ptr, c, y, SIZE, SPAN, TABLE, MAIN, REST)
        by_column = _terms(q, q_rest, column_table_ptr, c, x, SIZE, SPAN, TABLE, MAIN, REST)
        largest = tl.full([QUERIES], float("-inf"), tl.float32)
        total, lost = tl.zeros([QUERIES], tl.float32), tl.zeros([QUERIES], tl.float32)
        for start in range(0, SIZE * SIZE, KEYS):
            key = start + tl.arange(0, KEYS)
            v, u = key // SIZE, key % SIZE
            inside = (v < tall) & (u < wide)
            seen = inside & (key < SIZE * SIZE)
            key_at = (top + v) * width + left + u
            k_here = qkv_ptr + image * 3 * dim + (key_at * 3 * dim + dim + head * c)
            k = tl.load(k_here[None, :] + own[:, None], mask=seen[None, :] & (own < c)[:, None], other=0.0)
            scores = tl.dot(q, k, input_precision="ieee")
            if REST:
                k = tl.load(k_here[None, :] + more[:, None], mask=seen[None, :] & (more < c)[:, None], other=0.0)
                scores = tl.dot(q_rest, k, scores, input_precision="ieee")
            scores = (scores + tl.where(inside[None, :], 0.0, beyond[:, None])) * scale
            scores = tl.dot(by_row, (slot[:, None] == v[None, :]).to(q.dtype), scores, input_precision="ieee")
            scores = tl.dot(by_column, (slot[:, None] == u[None, :]).to(q.dtype), scores, input_precision="ieee")
            scores = tl.where((key < SIZE * SIZE)[None, :], scores, float("-inf"))
            above = tl.maximum(largest, tl.max(scores, 1))
            weights, shrink = tl.exp2(scores - above[:, None]), tl.exp2(largest - above)
            total = total * shrink + tl.sum(weights, 1)
            lost = lost * shrink + tl.sum(tl.where(inside[None, :], 0.0, weights), 1)
            weights = weights.to(q.dtype)
            v_here = k_here[:, None] + dim
            values = tl.load(v_here + own[None, :], mask=seen[:, None] & (own < c)[None, :], other=0.0)
            mixed = tl.dot(weights, values, mixed * shrink[:, None], input_precision="ieee")
            if REST:
                values = tl.load(v_here + more[None, :], mask=seen[:, None] & (more < c)[None, :], other=0.0)
                mixed_rest = tl.dot(weights, values, mixed_rest * shrink[:, None], input_precision="ieee")
            largest = above
        out_here = out_ptr + image * dim + (at * dim + head * c)[:, None]
        _finish(out_here, mixed, lost, total, outside_ptr + 2 * dim + head * c, own, asks, c)
        if REST:
            _finish(out_here, mixed_rest, lost, total, outside_ptr + 2 * dim + head * c, more, asks, c)


@triton.jit
def _finish(out_here, mixed, lost, total, outside_ptr, channel, asks, c):
    """Adds the values outside of the grid, of which a query has `lost`, divides and stores."""
    outside = tl.load(outside_ptr + channel, mask=channel < c, other=0.0).to(tl.float32)
    out = (mixed + lost[:, None] * outside[None, :]) / total[:, None]
    there = asks[:, None] & (channel < c)[None, :]
    store(out_here + channel[None, :], out, there)


WINDOWS = Tiled(_attend, Tiling({"QUERIES": 128, "KEYS": 32}, 4, 3), Tiling({"QUERIES": 64, "KEYS": 32}, 4, 2))
"""The fastest of many on an H100: 7 steps of 32 keys waste less than 4 of 64."""
