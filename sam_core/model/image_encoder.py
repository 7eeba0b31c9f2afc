"""The image encoder: a plain ViT with windowed and a few global blocks (Li et al. 2022, ViTDet), and a neck.

Structure and parameter names are those of `modeling/image_encoder.py` in the released code.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_core.model.conv_stem import ConvStem
from sam_core.model.layers import DropPath, LayerNorm2d, MLPBlock
from sam_core.model.position_tables import resize_absolute_table
from sam_core.model.relative_attention import RelativeAttention
from sam_core.presets import ImageEncoderConfig


class ImageFeatures(NamedTuple):
    """What the image encoder hands to the mask decoder, for B images or crops.

    embedding: [B, C, h, w], stride 16. fine: () in the released models; with a convolutional stem
    ([B, C/4, 2h, 2w] at stride 8, [B, C/8, 4h, 4w] at stride 4), added inside the mask decoder's upscaling.
    """

    embedding: Tensor
    fine: tuple[Tensor, ...] = ()

    def take(self, index: Tensor | slice) -> "ImageFeatures":
        """The images at `index`: a slice, or an int64 [N] that may repeat images, one per prompt."""
        return ImageFeatures(self.embedding[index], tuple(f[index] for f in self.fine))


class PatchEmbed(nn.Module):
    """One linear map per patch: [B, 3, S, S] -> tokens [B, S / patch, S / patch, C], and no fine features."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.proj(x).permute(0, 2, 3, 1).contiguous(), ()  # or every sum and norm after it goes by columns


class Block(nn.Module):
    """Pre-norm transformer block. window_size: side of its attention windows in patches, 0 for global attention."""

    def __init__(self, config: ImageEncoderConfig, index: int) -> None:
        super().__init__()
        dim = config.embed_dim
        self.window_size = 0 if index in config.global_attn_indexes else config.window_size
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = RelativeAttention(dim, config.num_heads, config.attention_side(index))
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLPBlock(dim, int(dim * config.mlp_ratio), nn.GELU)
        self.drop_path = DropPath(config.drop_path * index / max(config.depth - 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, h, w, C] -> [B, h, w, C]."""
        x = x + self.drop_path(self.attn(self.norm1(x), self.window_size))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


Through = Callable[[Sequence[nn.Module], Tensor], Tensor]
"""A way through some blocks: tokens [B, h, w, C] -> [B, h, w, C]."""


def in_turn(blocks: Sequence[nn.Module], x: Tensor) -> Tensor:
    """One block after another."""
    for block in blocks:
        x = block(x)
    return x


class ImageEncoder(nn.Module):
    """Images to features, trainable and usable alike: no hidden `no_grad`."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        grid, dim = config.grid, config.embed_dim
        self.patch_embed = _stem(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, dim)) if config.absolute_positions else None
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.neck = nn.Sequential(
            nn.Conv2d(dim, config.out_chans, kernel_size=1, bias=False),
            LayerNorm2d(config.out_chans),
            nn.Conv2d(config.out_chans, config.out_chans, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(config.out_chans),
        )
        self._initialise()

    def forward(self, images: Tensor, windowed: Through = in_turn) -> ImageFeatures:
        """Normalised and padded images [B, 3, S, S] -> features, the embedding being [B, out_chans, S/16, S/16].

        windowed: another way through the blocks before the first global one.
        """
        x, fine = self.patch_embed(images)
        if self.pos_embed is not None:
            x = x + resize_absolute_table(self.pos_embed, x.shape[1], x.shape[2])
        first = [*takewhile(lambda block: block.window_size, self.blocks)]
        x = in_turn(list(self.blocks)[len(first) :], windowed(first, x))
        return ImageFeatures(self.neck(x.permute(0, 3, 1, 2)), fine)

    def _initialise(self) -> None:
        """Small normal weights as in ViT; relative positions start at zero."""
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)


def _stem(config: ImageEncoderConfig) -> nn.Module:
    if config.stem == "patch":
        return PatchEmbed(config.patch_size, config.embed_dim)
    return ConvStem(config.embed_dim, config.out_chans)
