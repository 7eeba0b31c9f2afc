"""The image encoder on an accelerator: a batch of crops, always of the same shape, with an attention of one's choice.

A view of an `ImageEncoder`. Pixels are normalised and padded where the model is, so that bytes travel there, a quarter
of what floats would be. Sums along the residual stream stay in float32; products are in the dtype of autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sam_core.model.image_encoder import Block, ImageEncoder, ImageFeatures
from sam_core.model.position_tables import resize_absolute_table
from sam_core.model.relative_attention import Attend
from sam_core.model.sam import Sam

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


class DeviceEncoder:
    """Encodes B crops given as bytes; holds no weights of its own.

    attend: see `relative_attention.Attend`. compiled: makes a faster form of a function of tensors and modules; blocks
    are of one kind or two, so that one form serves all of them.
    """

    def __init__(self, sam: Sam, attend: Attend, compiled: Compile | None = None) -> None:
        assert isinstance(sam.image_encoder, ImageEncoder), "only plain ViTs run here"
        self._encoder = sam.image_encoder
        self._mean, self._std = sam.pixel_mean, sam.pixel_std
        make = compiled or (lambda function: function)
        self._embed, self._neck = make(self._embedded), make(self._narrowed)
        self._block = make(partial(_block, attend=attend))

    def __call__(self, pixels: Tensor, sizes: Tensor) -> ImageFeatures:
        """pixels: uint8 [B, S, S, 3], each crop at the top left. sizes: int64 [B, 2], height and width of each."""
        x, update, fine = self._embed(pixels, sizes)
        for block in self._encoder.blocks:
            x, update = self._block(block, x, update)
        return ImageFeatures(self._neck(x, update), fine)

    def _embedded(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Positions of tokens and the tokens that are to be added to them, [B, h, w, C], and the fine features."""
        tokens, fine = self._encoder.patch_embed(self._normalised(pixels, sizes))
        positions = torch.zeros(tokens.shape, device=tokens.device)
        if self._encoder.pos_embed is not None:
            positions = positions + resize_absolute_table(self._encoder.pos_embed, tokens.shape[1], tokens.shape[2])
        return positions, tokens.contiguous(), tuple(level.float() for level in fine)

    def _narrowed(self, x: Tensor, update: Tensor) -> Tensor:
        """The residual stream and its last update, [B, h, w, C] -> the embedding [B, D, h, w]."""
        x = (x + update).permute(0, 3, 1, 2)
        for layer in self._encoder.neck:
            x = layer(x).float()
        return x

    def _normalised(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """float32 [B, 3, S, S], zero outside of the crops, bit for bit as `geometry.model_input`."""
        along = torch.arange(pixels.shape[1], device=pixels.device)
        inside = (along[:, None] < sizes[:, 0, None, None]) & (along < sizes[:, 1, None, None])
        values = (pixels.permute(0, 3, 1, 2) - self._mean) / self._std
        return values.where(inside[:, None], 0.0)


def _block(block: Block, x: Tensor, update: Tensor, *, attend: Attend) -> tuple[Tensor, Tensor]:
    """The residual stream [B, h, w, C], and what is to be added to it next: one pass adds and normalises."""
    x = x + update
    x = x + block.attn(block.norm1(x), block.window_size, attend)
    return x, block.mlp(block.norm2(x))
