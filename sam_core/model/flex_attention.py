"""Attention on a grid with decomposed relative positions, by FlexAttention: one fused kernel on a GPU.

A query's position terms, one per row and one per column of keys, are looked up while its scores are made. Nothing of
the size of the scores is stored, and no channels are added to queries, keys and values as in `relative_attention`.
Only compiled code has the kernel: called as it is, torch computes the same from whole tables of scores.
"""

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention


def attend_flex(q: Tensor, k: Tensor, v: Tensor, along_h: Tensor, along_w: Tensor) -> Tensor:
    """As `relative_attention.attend`: q, k, v [B, heads, h * w, c], along_h [h, h, c], along_w [w, w, c] -> like q."""
    h, w = len(along_h), len(along_w)
    on_grid = q.unflatten(2, (h, w))
    by_row = torch.einsum("bnhwc,hkc->bnhwk", on_grid, along_h).flatten(2, 3)
    by_column = torch.einsum("bnhwc,wkc->bnhwk", on_grid, along_w).flatten(2, 3)

    def with_positions(score: Tensor, b: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + by_row[b, head, query, key // w] + by_column[b, head, query, key % w]

    out = flex_attention(q, k, v, score_mod=with_positions)
    assert isinstance(out, Tensor)
    return out
