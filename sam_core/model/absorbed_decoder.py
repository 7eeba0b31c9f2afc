"""The mask decoder for many prompts on one image: the same outputs for a fraction of the work.

What belongs to the image alone is computed once (`share`); projections of the image are absorbed into the tokens
(`absorbed_attention`); predicted IoU is read before anything is upscaled, so that only masks that pass are drawn.
Equal to `MaskDecoder` up to the rounding of float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import ConvTranspose2d

from sam_core.model.absorbed_attention import (
    messages_to_image,
    split_heads,
    token_messages,
    tokens_read_image,
    weights_over_tokens,
)
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.layers import LayerNorm2d
from sam_core.model.mask_decoder import MaskDecoder
from sam_core.model.residual_norm import residual_norm
from sam_core.model.two_way_transformer import TwoWayAttentionBlock


class SharedImage(NamedTuple):
    """One image as all its prompts see it before the first layer; L = h * w positions, C channels.

    image, positions: [1, L, C]. keys, values, queries: projected for the first layer, [H, L, d].
    fine: fine features by cell, [h, w, 2, 2, C/4] and [h, w, 2, 2, 2, 2, C/8], or ().
    """

    image: Tensor
    positions: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor
    fine: tuple[Tensor, ...]
    grid: tuple[int, int]


class DecodedPrompts(NamedTuple):
    """N prompts after the transformer: iou [N, M] of the chosen outputs, masks [N, M, C], image [N, L, C]."""

    iou: Tensor
    masks: Tensor
    image: Tensor


class AbsorbedDecoder:
    """A view of a `MaskDecoder`; holds no weights of its own."""

    def __init__(self, decoder: MaskDecoder, *, multimask: bool = True) -> None:
        self.decoder = decoder
        self.outputs = slice(1, None) if multimask else slice(0, 1)

    def share(self, features: ImageFeatures, image_pe: Tensor, dense: Tensor) -> SharedImage:
        """What all prompts on one image have in common.

        Args:
            features: of one image, a batch of 1.
            image_pe: [1, C, h, w].
            dense: [1, C, 1, 1] or [1, C, h, w], the dense prompt that all prompts share.
        """
        image = (features.embedding + dense).flatten(2).transpose(1, 2).contiguous()
        positions = image_pe.flatten(2).transpose(1, 2).contiguous()
        first = self._layers[0]
        read, write = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        return SharedImage(
            image=image,
            positions=positions,
            keys=split_heads(read.k_proj(image + positions), read.num_heads)[0],
            values=split_heads(read.v_proj(image), read.num_heads)[0],
            queries=split_heads(write.q_proj(image + positions), write.num_heads)[0],
            fine=tuple(_by_cell(fine[0], 2**level) for level, fine in enumerate(features.fine, start=1)),
            grid=(features.embedding.shape[2], features.embedding.shape[3]),
        )

    def decode(self, shared: SharedImage, sparse: Tensor) -> DecodedPrompts:
        """Runs the transformer on sparse prompts [N, T, C] and reads the predicted IoU; draws no mask."""
        decoder = self.decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        token_pe = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        tokens, image, placed = self._first_layer(shared, token_pe)
        for layer in self._layers[1:]:
            tokens, image, placed = _layer(layer, tokens, image, placed, token_pe, shared.positions)
        last = decoder.transformer.final_attn_token_to_image
        seen = tokens_read_image(last, tokens + token_pe, placed, image)
        tokens = decoder.transformer.norm_final_attn(tokens + seen)
        iou = decoder.iou_prediction_head(tokens[:, 0])[:, self.outputs]
        return DecodedPrompts(iou, tokens[:, 1 : len(own)][:, self.outputs], image)

    def draw(self, shared: SharedImage, decoded: DecodedPrompts, wanted: Tensor) -> Tensor:
        """Low-resolution logits [K, 4h, 4w] of the K wanted masks, bool [N, M], in row-major order."""
        prompts = wanted.any(1)
        heads = list(self.decoder.output_hypernetworks_mlps)[self.outputs]
        masks = decoded.masks[prompts].unbind(1)
        filters = torch.stack([head(mask) for head, mask in zip(heads, masks, strict=True)], dim=1)
        pixels = self._upscale(decoded.image[prompts], shared)
        cells = torch.bmm(filters, pixels.transpose(1, 2))[wanted[prompts]]
        return _to_rows(cells, shared.grid)

    @property
    def _layers(self) -> list[TwoWayAttentionBlock]:
        return list(self.decoder.transformer.layers)  # type: ignore[arg-type]

    def _first_layer(self, shared: SharedImage, token_pe: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer, where the image is still the same for all prompts: its projections are shared."""
        layer = self._layers[0]
        read, write = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        tokens = layer.norm1(layer.self_attn(token_pe, token_pe, token_pe))
        queries = _rows_by_head(read.q_proj(tokens + token_pe), read.num_heads)
        seen = F.scaled_dot_product_attention(queries[None], shared.keys[None], shared.values[None])[0]
        tokens = layer.norm2(tokens + read.out_proj(_by_prompt(seen, len(tokens)).transpose(1, 2).flatten(2)))
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        keys = _rows_by_head(write.k_proj(tokens + token_pe), write.num_heads)
        scores = (keys * keys.shape[-1] ** -0.5) @ shared.queries.transpose(1, 2)
        weights = weights_over_tokens(_by_prompt(scores, len(tokens)).flatten(1, 2), write.num_heads)
        update = torch.bmm(weights.transpose(1, 2), token_messages(write, tokens))
        return tokens, *residual_norm(shared.image, update, layer.norm4, shared.positions)

    def _upscale(self, image: Tensor, shared: SharedImage) -> Tensor:
        """Image positions [P, L, C] -> pixels [P, L * 16, C/8], the 4x4 pixels of a cell together.

        A transposed convolution whose stride equals its kernel is a linear map of each cell.
        """
        to_stride_8, norm, _, to_stride_4, _ = self.decoder.output_upscaling
        assert isinstance(to_stride_8, ConvTranspose2d)
        assert isinstance(to_stride_4, ConvTranspose2d)
        assert isinstance(norm, LayerNorm2d)
        at_8, at_4 = (fine.flatten(0, -2) for fine in shared.fine) if shared.fine else (0, 0)
        x = _scatter(image, to_stride_8) + at_8
        x = F.gelu(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
        return F.gelu(_scatter(x, to_stride_4) + at_4)


def _layer(
    layer: TwoWayAttentionBlock, tokens: Tensor, image: Tensor, placed: Tensor, token_pe: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A two-way layer after the first: tokens [N, T, C]; image without and with positions, each [N, L, C]."""
    queries = tokens + token_pe
    tokens = layer.norm1(tokens + layer.self_attn(queries, queries, tokens))
    tokens = layer.norm2(tokens + tokens_read_image(layer.cross_attn_token_to_image, tokens + token_pe, placed, image))
    tokens = layer.norm3(tokens + layer.mlp(tokens))
    update = messages_to_image(layer.cross_attn_image_to_token, placed, tokens + token_pe, tokens)
    return tokens, *residual_norm(image, update, layer.norm4, positions)


def _rows_by_head(x: Tensor, heads: int) -> Tensor:
    """[N, T, H * d] -> [H, N * T, d]: all prompts as rows of one product, so that nothing shared is copied."""
    return x.view(*x.shape[:2], heads, -1).permute(2, 0, 1, 3).flatten(1, 2)


def _by_prompt(rows: Tensor, prompts: int) -> Tensor:
    """[H, N * T, x] -> [N, H, T, x]."""
    return rows.view(len(rows), prompts, -1, rows.shape[2]).transpose(0, 1)


def _scatter(x: Tensor, convolution: ConvTranspose2d) -> Tensor:
    """A 2x2 transposed convolution with stride 2 on cells: [P, S, C] -> [P, S * 4, D]."""
    weight = convolution.weight.permute(0, 2, 3, 1)
    bias = torch.zeros(1) if convolution.bias is None else convolution.bias.repeat(4)
    return (x @ weight.flatten(1) + bias).view(len(x), 4 * x.shape[1], weight.shape[3])


def _by_cell(fine: Tensor, factor: int) -> Tensor:
    """Fine features [C, h * factor, w * factor] in the order in which `_scatter` makes pixels, channels last."""
    channels, height, width = fine.shape
    if factor == 2:
        return fine.view(channels, height // 2, 2, width // 2, 2).permute(1, 3, 2, 4, 0).contiguous()
    cells = fine.view(channels, height // 4, 2, 2, width // 4, 2, 2)
    return cells.permute(1, 4, 2, 5, 3, 6, 0).contiguous()


def _to_rows(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Pixels in cell order [K, h * w * 16] -> rows of an image [K, 4h, 4w]."""
    x = cells.view(-1, *grid, 2, 2, 2, 2)
    return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(len(cells), 4 * grid[0], 4 * grid[1])
