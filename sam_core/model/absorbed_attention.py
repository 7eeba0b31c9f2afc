"""Attention between a few tokens and many image positions without projecting the image.

A score is (Wq q) . (Wk x + b). Multiplying Wk into the token side first gives (Wk^T Wq q) . x: the projection of
h * w positions becomes a projection of T tokens, per head. The same holds for values (pool the positions, then project
the pooled vectors) and, in the other direction, for the image's queries and for the output projection. With T = 7
tokens and 8 heads, 56 rows take the place of 128 + 128 projected channels at every one of 4096 positions.

So what tokens and image say to each other are a few rows per prompt: probes that are compared with positions, and
messages that are added to them. As a position's weights over tokens sum to 1, the first token can stay unsaid: the
others are compared with it, which saves a seventh of the rows (`Beside`). Shapes: N prompts, T tokens, H heads,
L = h * w positions, C channels, d per head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.model.two_way_transformer import Attention


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, T, H * d] -> [N, H, T, d]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def per_head(weight: Tensor, heads: int) -> Tensor:
    """The weight [H * d, C] of a projection -> [H, d, C]."""
    return weight.view(heads, -1, weight.shape[1])


def by_head(x: Tensor, weights: Tensor) -> Tensor:
    """Rows [N, H, T, a] times the weights [H, a, b] of their head: [N, H, T, b].

    One product for each head: the weights would be copied for each prompt otherwise.
    """
    heads, _, width = weights.shape
    rows = torch.bmm(x.transpose(0, 1).flatten(1, 2), weights)
    return rows.view(heads, len(x), -1, width).transpose(0, 1)


def reading_probes(attention: Attention, tokens: Tensor) -> Tensor:
    """What tokens [N, T, C] look for in the image: probes [N, H * T, C], whose products with positions are scores.

    The bias of the key projection adds the same to all scores of a query: softmax does not see it.
    """
    queries = split_heads(attention.q_proj(tokens), attention.num_heads)
    scaled = queries * queries.shape[-1] ** -0.5
    return by_head(scaled, per_head(attention.k_proj.weight, attention.num_heads)).flatten(1, 2)


def what_was_read(attention: Attention, pooled: Tensor) -> Tensor:
    """The answer of an attention whose weights, times the unprojected image, are pooled [N, H * T, C]: [N, T, C]."""
    heads = attention.num_heads
    each = pooled.unflatten(1, (heads, -1))
    values = by_head(each, per_head(attention.v_proj.weight, heads).transpose(1, 2)).transpose(1, 2).flatten(2)
    result: Tensor = attention.out_proj(values + attention.v_proj.bias)
    return result


def writing_probes(attention: Attention, placed_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """How positions score tokens [N, T, C]: probes [N, H * T, C] to compare with them, and offsets [N, H * T, 1]."""
    heads = attention.num_heads
    keys = split_heads(attention.k_proj(placed_tokens), heads)
    keys = keys * keys.shape[-1] ** -0.5
    probes = by_head(keys, per_head(attention.q_proj.weight, heads))
    return probes.flatten(1, 2), by_head(keys, attention.q_proj.bias.view(heads, -1, 1)).flatten(1, 2)


def messages(attention: Attention, tokens: Tensor) -> Tensor:
    """What each token would write into a position that attends to it alone: [N, H * T, C].

    The weights of a head sum to 1, so each head carries its share of the output bias.
    """
    heads = attention.num_heads
    values = split_heads(attention.v_proj(tokens), heads)
    out = attention.out_proj
    return (by_head(values, out.weight.T.view(heads, -1, len(out.bias))) + out.bias / heads).flatten(1, 2)


def weights_over_tokens(scores: Tensor, heads: int) -> Tensor:
    """Softmax over the tokens of each head: [N, H * T, L] -> the same shape."""
    weights: Tensor = scores.unflatten(1, (heads, -1)).softmax(2)
    return weights.flatten(1, 2)


class Beside(NamedTuple):
    """Rows of T tokens in H heads as the first token's, summed over heads, [N, 1, C], and what each of the others' has
    more than the first's of its head, [N, H * (T - 1), C]."""

    first: Tensor
    others: Tensor


def beside_first(rows: Tensor, heads: int) -> Beside:
    """Of rows [N, H * T, C]."""
    first, others = rows.unflatten(1, (heads, -1)).split([1, rows.shape[1] // heads - 1], dim=2)
    return Beside(first.sum(1), (others - first).flatten(1, 2))


def weights_beside_first(scores: Tensor, heads: int) -> Tensor:
    """The weights of all tokens but the first, from how much more than it they score: both [N, H * (T - 1), L]."""
    by_head = F.pad(scores.unflatten(1, (heads, -1)), (0, 0, 1, 0))
    return by_head.softmax(2)[:, :, 1:].flatten(1, 2)
