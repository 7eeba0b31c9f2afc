"""The image encoder on an accelerator: a batch of crops, always of the same shape, with an attention of one's choice.

A view of an `ImageEncoder`. Pixels are normalised and padded where the model is, so that bytes travel there, a quarter
of what floats would be. Sums along the residual stream stay in float32; products are in the dtype of autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.model.image_encoder import Block, ImageEncoder, ImageFeatures, PatchEmbed
from sam_core.model.layers import MLPBlock
from sam_core.model.position_tables import resize_absolute_table
from sam_core.model.relative_attention import Attend
from sam_core.model.sam import Sam

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


class Stream(NamedTuple):
    """The residual stream [B, h, w, C] in float32, and two updates that are not added to it yet.

    They are added by the pass that reads the stream to normalise it: each pass over memory counts.
    """

    x: Tensor
    attended: Tensor
    answered: Tensor

    def sum(self) -> Tensor:
        """The stream with its updates."""
        return self.x + self.attended + self.answered


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
        stream, fine = self._embed(pixels, sizes)
        for block in self._encoder.blocks:
            stream = self._block(block, stream)
        return ImageFeatures(self._neck(stream), fine)

    def _embedded(self, pixels: Tensor, sizes: Tensor) -> tuple[Stream, tuple[Tensor, ...]]:
        """Positions of the tokens and, to be added to them, the tokens; and the fine features."""
        tokens, fine = self._tokens(self._normalised(pixels, sizes))
        positions = torch.zeros(tokens.shape, device=tokens.device)
        if self._encoder.pos_embed is not None:
            positions = positions + resize_absolute_table(self._encoder.pos_embed, tokens.shape[1], tokens.shape[2])
        return Stream(positions, tokens, torch.zeros_like(tokens)), tuple(level.float() for level in fine)

    def _tokens(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """[B, 3, S, S] -> tokens [B, h, w, C], and fine features; a plain patch embedding as one product."""
        stem = self._encoder.patch_embed
        if not isinstance(stem, PatchEmbed):
            tokens, fine = stem(images)
            return tokens.contiguous(), fine
        side = stem.proj.kernel_size[0]
        patches = images.unflatten(3, (-1, side)).unflatten(2, (-1, side)).permute(0, 2, 4, 1, 3, 5).flatten(3)
        return F.linear(patches, stem.proj.weight.flatten(1), stem.proj.bias), ()

    def _narrowed(self, stream: Stream) -> Tensor:
        """The stream at its end -> the embedding [B, D, h, w]."""
        x = stream.sum().permute(0, 3, 1, 2)
        for layer in self._encoder.neck:
            x = layer(x).float()
        return x

    def _normalised(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """float32 [B, 3, S, S], zero outside of the crops, bit for bit as `geometry.model_input`."""
        along = torch.arange(pixels.shape[1], device=pixels.device)
        inside = (along[:, None] < sizes[:, 0, None, None]) & (along < sizes[:, 1, None, None])
        values = (pixels.permute(0, 3, 1, 2) - self._mean) / self._std
        return values.where(inside[:, None], 0.0)


def _block(block: Block, stream: Stream, *, attend: Attend) -> Stream:
    x = stream.sum()
    attended = block.attn(block.norm1(x), block.window_size, attend)
    return Stream(x, attended, _perceptron(block.mlp, block.norm2(x + attended)))


def _perceptron(mlp: MLPBlock, x: Tensor) -> Tensor:
    """The block's perceptron; where products are rounded to bfloat16, with GELU as part of the first one."""
    if not (x.is_cuda and mlp.lin1.weight.dtype == torch.bfloat16):
        out: Tensor = mlp(x)
        return out
    rounded: Tensor = mlp.lin2(linear_gelu(x.bfloat16(), mlp.lin1.weight, mlp.lin1.bias))
    return rounded


@torch.library.custom_op("sam_core::linear_gelu", mutates_args=())
def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """gelu(x @ weight.T + bias) of bfloat16 [..., C] on CUDA, [..., D].

    cuBLAS applies it to its float32 sums, in the form with tanh, which is off by at most 5e-4. A GELU of its own is
    exact, but of sums rounded to bfloat16, and takes another pass over the widest tensor: the embedding of ViT-H was
    further from float32 with it (0.0093 against 0.0088).
    """
    return torch._addmm_activation(bias, x.flatten(0, -2), weight.T, use_gelu=True).view(*x.shape[:-1], -1)


@linear_gelu.register_fake
def _(x: Tensor, weight: Tensor, _bias: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))
