"""TinyViT (Wu et al. 2022) as the image encoder of MobileSAM: small enough for a CPU, with the released embedding.

Convolutions at stride 4, then windowed attention at strides 8, 16 and 16, where plain TinyViT goes on to 32. Parameter
names are those of MobileSAM's checkpoint; its classifier is not part of it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_core.model.attention import attention
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.layers import DropPath, LayerNorm2d
from sam_core.model.linear import linear
from sam_core.model.windows import partition, unpartition
from sam_core.presets import TinyEncoderConfig

STAGE_STRIDES = (4, 8, 16, 16)


class ConvNorm(nn.Sequential):
    """A convolution without bias, then batch normalisation."""

    def __init__(self, before: int, after: int, size: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(after))


class PatchEmbed(nn.Module):
    """Pixels to features at stride 4, by two convolutions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, dim // 2, 3, 2), nn.GELU(), ConvNorm(dim // 2, dim, 3, 2))

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, C, S / 4, S / 4]."""
        out: Tensor = self.seq(images)
        return out


class MBConv(nn.Module):
    """Widen fourfold, convolve each channel, narrow; the activation follows the sum."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = 4 * dim
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim)
        self.drop_path = DropPath(0.0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        branch = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return F.gelu(x + self.drop_path(branch))


class PatchMerging(nn.Module):
    """To the next stage's width, at half the resolution or at the same."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(before, after)
        self.conv2 = ConvNorm(after, after, 3, stride, groups=after)
        self.conv3 = ConvNorm(after, after)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C', h / stride, w / stride]."""
        out: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return out


class OffsetAttention(nn.Module):
    """Attention in windows with a learned bias per head and absolute offset (|rows|, |columns|) of query and key."""

    def __init__(self, dim: int, num_heads: int, side: int) -> None:
        super().__init__()
        self.num_heads, self.side = num_heads, side
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, side * side))

    def forward(self, x: Tensor) -> Tensor:
        """Windows [W, side, side, C] -> [W, side, side, C]."""
        windows, side, _, dim = x.shape
        qkv = linear(self.qkv, self.norm(x)).view(windows, side * side, self.num_heads, -1)
        q, k, v = qkv.transpose(1, 2).chunk(3, -1)  # per head side by side, unlike in the plain ViT
        attended = attention(q, k, v, scale=q.shape[-1] ** -0.5, bias=self._biases())
        return linear(self.proj, attended.transpose(1, 2).reshape(windows, side, side, dim))

    def _biases(self) -> Tensor:
        """[heads, side^2, side^2]: the table holds the offset of |rows| r and |columns| c at r * side + c."""
        along = torch.arange(self.side, device=self.attention_biases.device)
        apart = (along[:, None] - along[None, :]).abs()
        offset = apart[:, None, :, None] * self.side + apart[None, :, None, :]
        biases: Tensor = self.attention_biases[:, offset.reshape(self.side**2, self.side**2)]
        return biases


class Perceptron(nn.Module):
    """The two-layer perceptron of a block, with its own norm."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, C] -> [B, h, w, C]."""
        return linear(self.fc2, F.gelu(linear(self.fc1, self.norm(x))))


class TinyBlock(nn.Module):
    """Attention in windows, a convolution per channel, a perceptron."""

    def __init__(self, dim: int, num_heads: int, window: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window = window
        self.attn = OffsetAttention(dim, num_heads, window)
        self.mlp = Perceptron(dim, int(dim * mlp_ratio))
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.drop_path = DropPath(0.0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        grid = x.permute(0, 2, 3, 1)
        # As in the plain ViT, zeros that fill the last windows take part in attention.
        attended = unpartition(self.attn(partition(grid, self.window)), grid.shape[1], grid.shape[2])
        grid = grid + self.drop_path(attended)
        grid = self.local_conv(grid.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out: Tensor = (grid + self.drop_path(self.mlp(grid))).permute(0, 3, 1, 2)
        return out


class TinyStage(nn.Module):
    """Blocks of one width, and the way to the next."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C', h', w']."""
        for block in self.blocks:
            x = block(x)
        if self.downsample is not None:
            x = self.downsample(x)
        return x


class TinyViT(nn.Module):
    """Images to features, like `ImageEncoder`, without fine features."""

    def __init__(self, config: TinyEncoderConfig) -> None:
        super().__init__()
        dims = config.embed_dims
        self.patch_embed = PatchEmbed(dims[0])
        merges = [
            PatchMerging(before, after, stride // previous)
            for (before, after), (previous, stride) in zip(pairwise(dims), pairwise(STAGE_STRIDES), strict=True)
        ]
        self.layers = nn.ModuleList(
            TinyStage([_block(config, stage) for _ in range(config.depths[stage])], merge)
            for stage, merge in enumerate([*merges, None])
        )
        self.neck = nn.Sequential(
            nn.Conv2d(dims[-1], config.out_chans, 1, bias=False),
            LayerNorm2d(config.out_chans),
            nn.Conv2d(config.out_chans, config.out_chans, 3, padding=1, bias=False),
            LayerNorm2d(config.out_chans),
        )
        self._initialise()

    def forward(self, images: Tensor) -> ImageFeatures:
        """Normalised and padded images [B, 3, S, S] -> features, the embedding being [B, out_chans, S/16, S/16]."""
        x = self.patch_embed(images)
        for layer in self.layers:
            x = layer(x)
        return ImageFeatures(self.neck(x))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)


def _block(config: TinyEncoderConfig, stage: int) -> nn.Module:
    dim = config.embed_dims[stage]
    if stage == 0:
        return MBConv(dim)
    return TinyBlock(dim, config.num_heads[stage], config.window_sizes[stage], config.mlp_ratio)
