"""Multi-head attention over a grid with decomposed relative positions, the attention of the image encoder.

The score of a query at (y, x) for a key at (v, u) is q.k / sqrt(c) + q.H[y - v] + q.W[x - u], with one learned table
per axis (Li et al. 2022, MViTv2, section 4.1). As in the released code the position terms see the unscaled q.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_core.model.position_tables import resize_relative_table


class RelativeAttention(nn.Module):
    """Self-attention over square grids. side: patches along one side, which sets the size of the tables."""

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // num_heads))

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, C] -> [B, h, w, C]."""
        b, h, w, c = x.shape
        q, k, v = self.qkv(x).view(b, h * w, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = position_bias(q, offsets(self.rel_pos_h, h), offsets(self.rel_pos_w, w))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.proj(attended.transpose(1, 2).reshape(b, h, w, c))
        return out


def offsets(table: Tensor, side: int) -> Tensor:
    """Relative positions [L, c] -> [side, side, c]: the vector of every (query, key) pair along one axis."""
    table = resize_relative_table(table, 2 * side - 1)
    position = torch.arange(side, device=table.device)
    return table[position[:, None] - position[None, :] + side - 1]


def position_bias(q: Tensor, along_h: Tensor, along_w: Tensor) -> Tensor:
    """What relative positions add to the scores.

    q: unscaled [B, heads, h * w, c]. along_h: [h, h, c]. along_w: [w, w, c]. Returns [B, heads, h * w, h * w].
    """
    b, heads, area, c = q.shape
    q = q.reshape(b, heads, len(along_h), len(along_w), c)
    by_row = torch.einsum("bnhwc,hkc->bnhwk", q, along_h)
    by_column = torch.einsum("bnhwc,wkc->bnhwk", q, along_w)
    return (by_row[..., :, None] + by_column[..., None, :]).reshape(b, heads, area, area)
