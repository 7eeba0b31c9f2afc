"""Multi-head attention over a grid with decomposed relative positions, the attention of the image encoder.

The score of a query at (y, x) for a key at (v, u) is q.k / sqrt(c) + q.H[y - v] + q.W[x - u], with one learned table
per axis (Li et al. 2022, MViTv2, section 4.1). As in the released code the position terms see the unscaled q.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sam_core.model.attention import attention
from sam_core.model.blocked_attention import attend_in_blocks
from sam_core.model.linear import linear, takes_apart
from sam_core.model.position_tables import resize_relative_table
from sam_core.model.tiled_attention import QUERIES, attend_in_tiles
from sam_core.model.vector_math import can_compile
from sam_core.model.windowed_attention import attend_in_windows
from sam_core.model.windows import partition, unpartition

BLOCKED_FROM = 1024
"""Positions from which attention on a CPU goes in blocks: below, everything fits the cache anyway."""

Attend = Callable[["RelativeAttention", Tensor, int], Tensor]
"""As `attend_layer`: what a layer makes of its qkv [B, h, w, 3C] with a window, [B, h, w, C]."""


class RelativeAttention(nn.Module):
    """Self-attention over square grids. side: patches along one side, which sets the size of the tables."""

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))

    def forward(self, x: Tensor, window: int = 0, attend: Attend | None = None) -> Tensor:
        """[B, h, w, C] -> [B, h, w, C]. window: side of the windows that attend to themselves; 0 for the whole grid.

        attend: another way to compute what `attend_layer` does.
        """
        return linear(self.proj, (attend or attend_layer)(self, linear(self.qkv, x), window))


def attend_layer(layer: RelativeAttention, qkv: Tensor, window: int) -> Tensor:
    """Attention of a layer's qkv [B, h, w, 3C], within windows or, if 0, over the whole grid: [B, h, w, C].

    Windows that reach beyond the grid see zeros there, which take part in attention as in the released models. The
    products of zeros are biases: they are filled in rather than computed.
    """
    if not window:
        return attend_grid(layer, qkv)
    if can_compile(qkv):
        row_table, column_table = tables_of(layer, window)
        by_head = qkv.contiguous().unflatten(3, (3, layer.num_heads, -1))
        outside = layer.qkv.bias.view(3, layer.num_heads, -1)
        return attend_in_windows(by_head, outside, row_table, column_table, window).flatten(3)
    windows = partition(qkv, window, outside=layer.qkv.bias)
    return unpartition(attend_grid(layer, windows), *qkv.shape[1:3])


def attend_grid(layer: RelativeAttention, qkv: Tensor) -> Tensor:
    """Attention over whole grids: [B, h, w, 3C] -> [B, h, w, C]."""
    return joined(attend(*split(layer, qkv), in_tiles=takes_apart(layer.qkv)), qkv)


def split(layer: RelativeAttention, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What `attend` is given: q, k, v [B, heads, h * w, c] of qkv [B, h, w, 3C], along_h and along_w in its dtype."""
    b, h, w, _ = qkv.shape
    q, k, v = qkv.view(b, h * w, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    tables = zip((layer.rel_pos_h, layer.rel_pos_w), (h, w), strict=True)
    along_h, along_w = (offsets(table, side).to(q.dtype) for table, side in tables)
    return q, k, v, along_h, along_w


def tables_of(layer: RelativeAttention, size: int) -> tuple[Tensor, Tensor]:
    """Relative positions along y and x for a grid of size x size, [2 * size - 1, c] each."""
    length = 2 * size - 1
    return resize_relative_table(layer.rel_pos_h, length), resize_relative_table(layer.rel_pos_w, length)


def joined(attended: Tensor, qkv: Tensor) -> Tensor:
    """[B, heads, h * w, c] -> [B, h, w, C], the grid being that of qkv."""
    return attended.transpose(1, 2).reshape(*qkv.shape[:3], -1)


def offsets(table: Tensor, side: int) -> Tensor:
    """Relative positions [L, c] -> [side, side, c]: the vector of every (query, key) pair along one axis."""
    table = resize_relative_table(table, 2 * side - 1)
    position = torch.arange(side, device=table.device)
    return table[position[:, None] - position[None, :] + side - 1]


def attend(q: Tensor, k: Tensor, v: Tensor, along_h: Tensor, along_w: Tensor, *, in_tiles: bool = False) -> Tensor:
    """Attention on a grid: q, k, v [B, heads, h * w, c], along_h [h, h, c], along_w [w, w, c] -> like q.

    in_tiles: large grids by `tiled_attention`, for a CPU that `has_tiles`.

    A query has one position term per row and one per column of keys. Where no compiled pass adds them, they travel in
    h + w extra channels of q, which meet one-hot channels of k, so a fused kernel does everything. Either way no table
    of h * w by h * w scores is stored, unless `attention` trains on a CPU.
    """
    b, heads, _, c = q.shape
    h, w = len(along_h), len(along_w)
    by_row, by_column = position_terms(q, along_h, along_w)
    if q.shape[2] >= BLOCKED_FROM and can_compile(q):
        stacked = ((q * c**-0.5), k, v, by_row, by_column)
        compiled = attend_in_tiles if in_tiles and q.shape[2] % QUERIES == 0 else attend_in_blocks
        return compiled(*(x.flatten(0, 1).contiguous() for x in stacked)).view(q.shape)
    places = one_hot_places(h, w, like=by_row).expand(b, heads, -1, -1)
    queries = torch.cat([q * c**-0.5, by_row, by_column], dim=-1)
    keys = torch.cat([k, places], dim=-1)
    return attention(queries, keys, v, scale=1.0)


def position_terms(q: Tensor, along_h: Tensor, along_w: Tensor) -> tuple[Tensor, Tensor]:
    """What rows and columns of keys add to the scores of queries [B, heads, h * w, c]: [..., h * w, h] and
    [..., h * w, w]."""
    on_grid = q.reshape(*q.shape[:2], len(along_h), len(along_w), q.shape[3])
    by_row = torch.einsum("bnhwc,hkc->bnhwk", on_grid, along_h).flatten(2, 3)
    return by_row, torch.einsum("bnhwc,wkc->bnhwk", on_grid, along_w).flatten(2, 3)


def one_hot_places(h: int, w: int, *, like: Tensor) -> Tensor:
    """Row and column of every position of a grid: [h * w, h + w], two ones per line, in the dtype of `like`."""
    rows = torch.eye(h, dtype=like.dtype, device=like.device).repeat_interleave(w, dim=0)
    columns = torch.eye(w, dtype=like.dtype, device=like.device).repeat(h, 1)
    return torch.cat([rows, columns], dim=1)
