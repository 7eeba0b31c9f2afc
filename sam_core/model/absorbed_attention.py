"""Attention between a few tokens and many image positions without projecting the image.

A score is (Wq q) . (Wk x + b). Multiplying Wk into the token side first gives (Wk^T Wq q) . x: the projection of
h * w positions becomes a projection of T tokens, per head. The same holds for values (pool the positions, then project
the pooled vectors) and, in the other direction, for the image's queries and for the output projection. With T = 7
tokens and 8 heads, 56 rows take the place of 128 + 128 projected channels at every one of 4096 positions.

Shapes: N prompts, T tokens, H heads, L = h * w positions, C channels, d channels per head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sam_core.model.two_way_transformer import Attention


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N, T, H * d] -> [N, H, T, d]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def per_head(weight: Tensor, heads: int) -> Tensor:
    """The weight [H * d, C] of a projection -> [H, d, C]."""
    return weight.view(heads, -1, weight.shape[1])


def tokens_read_image(attention: Attention, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What `attention(tokens, keys, values)` returns, computed on the token side.

    Args:
        attention: its key and value projections are absorbed.
        tokens: queries [N, T, C].
        keys, values: unprojected image [N, L, C].

    Returns:
        [N, T, C].
    """
    heads = attention.num_heads
    queries = split_heads(attention.q_proj(tokens), heads)
    # The bias of the key projection adds the same to all scores of a query: softmax does not see it.
    probes = queries @ per_head(attention.k_proj.weight, heads) * queries.shape[-1] ** -0.5
    weights = torch.bmm(probes.flatten(1, 2), keys.transpose(1, 2)).softmax(-1)
    pooled = torch.bmm(weights, values).view(*queries.shape[:3], -1)
    out = (pooled @ per_head(attention.v_proj.weight, heads).transpose(1, 2)).transpose(1, 2).flatten(2)
    result: Tensor = attention.out_proj(out + attention.v_proj.bias)
    return result


def image_probes(attention: Attention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What image positions are compared with: probes [N, H * T, C] and offsets [N, H * T, 1] of the scores."""
    heads = attention.num_heads
    keys = split_heads(attention.k_proj(tokens), heads)
    scale = keys.shape[-1] ** -0.5
    probes = keys @ per_head(attention.q_proj.weight, heads) * scale
    offsets = keys @ attention.q_proj.bias.view(heads, -1, 1) * scale
    return probes.flatten(1, 2), offsets.flatten(1, 2)


def token_messages(attention: Attention, tokens: Tensor) -> Tensor:
    """What each token would write into a position that attends to it alone: [N, H * T, C].

    The weights of a head sum to 1, so each head carries its share of the output bias.
    """
    heads = attention.num_heads
    values = split_heads(attention.v_proj(tokens), heads)
    out = attention.out_proj
    messages = values @ out.weight.T.view(heads, -1, len(out.bias)) + out.bias / heads
    return messages.flatten(1, 2)


def weights_over_tokens(scores: Tensor, heads: int) -> Tensor:
    """Softmax over the tokens of each head: [N, H * T, L] -> the same shape."""
    return scores.view(len(scores), heads, -1, scores.shape[2]).softmax(2).flatten(1, 2)


def messages_to_image(attention: Attention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What `attention(queries, keys, values)` returns for image positions, computed on the token side.

    Args:
        attention: its query and output projections are absorbed.
        queries: unprojected image with positions, [N, L, C].
        keys, values: tokens [N, T, C].

    Returns:
        [N, L, C].
    """
    probes, offsets = image_probes(attention, keys)
    scores = torch.baddbmm(offsets, probes, queries.transpose(1, 2))
    weights = weights_over_tokens(scores, attention.num_heads)
    return torch.bmm(weights.transpose(1, 2), token_messages(attention, values))
