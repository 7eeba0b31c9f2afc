"""`blocked_attention` for processors with AMX: its products are taken apart (`split_products`), to 3e-6 on the mean."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.llvm_tiles import begin_tiles, end_tiles
from sam_core.machine_code import entry
from sam_core.model.blocked_attention import exponentiate
from sam_core.model.split_products import (
    Split,
    put_split,
    room_for_columns,
    room_for_rows,
    split_left,
    split_right,
    split_transposed,
    whole_steps,
)
from sam_core.model.tile_products import Floats, as_array
from sam_core.model.vector_math import wide_vectors

QUERIES = 64
"""Queries of a block: with 4096 keys their scores take a megabyte, and as pieces another one."""


def attend_in_tiles(q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """As `blocked_attention.attend_in_blocks`; L is a multiple of QUERIES."""
    length, c = q.shape[1:]
    wide = whole_steps(c)
    queries, keys, values = (as_array(F.pad(x, (0, wide - c))) for x in (q, k, v))
    out = q.new_empty(len(q), length, wide)
    _attend(queries, keys, values, as_array(by_row), as_array(by_column), _scratch(length, wide), out.numpy())
    return out[..., :c]


class _Scratch(NamedTuple):
    """Memory for n = QUERIES of them and L keys of c channels: scores [n, L], sums [n]; as pieces of products queries
    [n, c], keys [c, L], weights [n, L] and values [L, c]. zeros: [at least L and c], what is added to products."""

    scores: Floats
    sums: Floats
    queries: Split
    keys: Split
    weights: Split
    values: Split
    zeros: Floats


def _scratch(length: int, channels: int) -> _Scratch:
    return _Scratch(
        scores=torch.empty(QUERIES, length).numpy(),
        sums=torch.empty(QUERIES).numpy(),
        queries=room_for_rows(QUERIES, channels),
        keys=room_for_columns(length, channels),
        weights=room_for_rows(QUERIES, length),
        values=room_for_columns(channels, length),
        zeros=torch.zeros(max(length, channels)).numpy(),
    )


@entry
def _attend(q: Floats, k: Floats, v: Floats, by_row: Floats, by_column: Floats, scratch: _Scratch, out: Floats) -> None:
    """q, k, v, out: [N, L, c], c by whole steps."""
    wide_vectors()
    begin_tiles()
    rows, columns = by_row.shape[2], by_column.shape[2]
    on_grid = scratch.scores.reshape(QUERIES, rows, columns)
    for n in range(len(q)):
        split_transposed(k[n], scratch.keys)
        split_right(v[n], scratch.values)
        for start in range(0, q.shape[1], QUERIES):
            end = start + QUERIES
            split_left(q[n, start:end], scratch.queries)
            put_split(scratch.queries, scratch.keys, scratch.zeros, scratch.scores)
            exponentiate(on_grid, by_row[n, start:end], by_column[n, start:end], scratch.sums)
            split_left(scratch.scores, scratch.weights)
            put_split(scratch.weights, scratch.values, scratch.zeros, out[n, start:end])
            for i in range(QUERIES):
                for c in range(out.shape[2]):
                    out[n, start + i, c] /= scratch.sums[i]
    end_tiles()
