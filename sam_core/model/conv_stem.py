"""Convolutional patch embedding: what a small plain ViT needs to learn from few images.

Four stride-2 convolutions with residual blocks take the place of the 16x16 patch projection ("Early Convolutions
Help Transformers See Better", Xiao et al. 2021, section 3). The maps at strides 8 and 4 are handed on, narrowed, as
fine features that the mask decoder adds while it upscales (the high-resolution features of SAM 2, section 4).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

STEM_WIDTHS = (24, 48, 96)
"""Channels at strides 2, 4 and 8."""
BLOCKS = (0, 1, 2)
"""Residual blocks at strides 2, 4 and 8."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of [B, C, H, W]; free of copies when the tensor is channels-last in memory."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + conv(GELU(conv(norm(x)))), 3x3 convolutions, width and resolution kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width, eps=1e-6)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        out: Tensor = x + self.conv2(F.gelu(self.conv1(self.norm(x))))
        return out


class ConvStem(nn.Module):
    """Pixels to ViT tokens, and fine features for the mask decoder.

    Args:
        embed_dim: width of the tokens.
        out_chans: width of the mask decoder; fine features have a quarter (stride 8) and an eighth (stride 4) of it.
    """

    def __init__(self, embed_dim: int, out_chans: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, width, 3, stride=2, padding=1),
                nn.GELU(),
                *(ResidualBlock(width) for _ in range(blocks)),
            )
            for before, width, blocks in zip((3, *STEM_WIDTHS), STEM_WIDTHS, BLOCKS, strict=False)
        )
        _, stride4, stride8 = STEM_WIDTHS
        self.proj = nn.Sequential(ChannelNorm(stride8, eps=1e-6), nn.Conv2d(stride8, embed_dim, 3, stride=2, padding=1))
        self.fine8 = nn.Conv2d(stride8, out_chans // 4, 1)
        self.fine4 = nn.Conv2d(stride4, out_chans // 8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Embed normalised images.

        Args:
            x: [B, 3, S, S] float, model input frame, S a multiple of 16.

        Returns:
            Tokens [B, S/16, S/16, embed_dim], and the fine features
            ([B, out_chans/4, S/8, S/8], [B, out_chans/8, S/4, S/4]).
        """
        stride2, stride4, stride8 = self.stages
        at4 = stride4(stride2(x))
        at8 = stride8(at4)
        tokens = self.proj(at8).permute(0, 2, 3, 1)
        return tokens, (self.fine8(at8), self.fine4(at4))
