"""The image encoder on an accelerator: a batch of crops, always of the same shape, with an attention of one's choice.

A view of an `ImageEncoder`. Pixels are normalised and padded where the model is, so that bytes travel there, a quarter
of what floats would be. Sums along the residual stream stay in float32; products are in the dtype of autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sam_core.model.image_encoder import Block, ImageEncoder, ImageFeatures
from sam_core.model.position_tables import resize_absolute_table
from sam_core.model.relative_attention import Attend
from sam_core.model.sam import Sam


class DeviceEncoder:
    """Encodes B crops given as bytes; holds no weights of its own."""

    def __init__(self, sam: Sam, attend: Attend) -> None:
        assert isinstance(sam.image_encoder, ImageEncoder), "only plain ViTs run here"
        self._encoder = sam.image_encoder
        self._mean, self._std = sam.pixel_mean, sam.pixel_std
        self._attend = attend

    def __call__(self, pixels: Tensor, sizes: Tensor) -> ImageFeatures:
        """pixels: uint8 [B, S, S, 3], each crop at the top left. sizes: int64 [B, 2], height and width of each."""
        encoder = self._encoder
        x, fine = encoder.patch_embed(self._normalised(pixels, sizes))
        x = x.float()
        if encoder.pos_embed is not None:
            x = x + resize_absolute_table(encoder.pos_embed, x.shape[1], x.shape[2])
        for block in encoder.blocks:
            assert isinstance(block, Block)
            x = self._block(block, x)
        x = x.permute(0, 3, 1, 2)
        for layer in encoder.neck:
            x = layer(x).float()
        return ImageFeatures(x, tuple(level.float() for level in fine))

    def _normalised(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """float32 [B, 3, S, S], zero outside of the crops, bit for bit as `geometry.model_input`."""
        along = torch.arange(pixels.shape[1], device=pixels.device)
        inside = (along[:, None] < sizes[:, 0, None, None]) & (along < sizes[:, 1, None, None])
        values = (pixels.permute(0, 3, 1, 2) - self._mean) / self._std
        return values.where(inside[:, None], 0.0)

    def _block(self, block: Block, x: Tensor) -> Tensor:
        """[B, h, w, C] -> [B, h, w, C]."""
        x = x + block.attn(block.norm1(x), block.window_size, self._attend)
        out: Tensor = x + block.mlp(block.norm2(x))
        return out
