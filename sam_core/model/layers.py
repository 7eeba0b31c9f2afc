"""Small layers that the encoder and the decoder share. Parameter names follow the released checkpoints."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from sam_core.model.linear import prepared
from sam_core.model.vector_math import can_compile, gelu_in_place

TOKENS_AT_ONCE = 512
"""Tokens that a CPU takes through a perceptron at a time."""


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = 1e-6

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        x = (x - mean) * torch.rsqrt(variance + self.eps)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class MLPBlock(nn.Module):
    """The two-layer perceptron of a transformer block: [..., dim] -> [..., dim]."""

    def __init__(self, dim: int, hidden_dim: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.act, nn.GELU) and can_compile(x):
            return self._in_slices(x)
        out: Tensor = self.lin2(self.act(self.lin1(x)))
        return out

    def _in_slices(self, x: Tensor) -> Tensor:
        """On a CPU, a few tokens at a time, whose hidden layer stays in the cache."""
        out, first, second = torch.empty_like(x), prepared(self.lin1, x), prepared(self.lin2, x)
        for tokens, target in zip(_slices(x), _slices(out), strict=True):
            hidden = first(tokens)
            gelu_in_place(hidden.numpy())
            target.copy_(second(hidden))
        return out


def _slices(x: Tensor) -> tuple[Tensor, ...]:
    slices: tuple[Tensor, ...] = x.view(-1, x.shape[-1]).split(TOKENS_AT_ONCE)
    return slices


class MLP(nn.Module):
    """`depth` linear layers with ReLU between them, [..., in_dim] -> [..., out_dim]: the heads of the mask decoder."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, depth: int) -> None:
        super().__init__()
        widths = [in_dim, *[hidden_dim] * (depth - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(m, n) for m, n in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu()
        out: Tensor = last(x)
        return out


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, drops a residual branch of whole samples of [B, ...]."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return branch
        keep = 1.0 - self.rate
        kept = branch.new_empty(branch.shape[0], *[1] * (branch.ndim - 1)).bernoulli_(keep)
        return branch * kept / keep
