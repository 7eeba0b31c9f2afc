"""The absorbed mask decoder for prompts on several crops in one call, on tensors of fixed shapes.

Prompts come in groups of equal size, each on one crop: N = G * P prompts. What belongs to a crop alone is shared by the
prompts of a group and never copied per prompt. Arithmetic is that of `AbsorbedDecoder`; there is no Python between
the operations that depends on their values, so that `torch.compile` makes one graph of it.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.model.absorbed_attention import (
    messages,
    reading_probes,
    split_heads,
    weights_over_tokens,
    what_was_read,
    writing_probes,
)
from sam_core.model.absorbed_decoder import DecodedPrompts, by_cell
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.mask_decoder import MaskDecoder
from sam_core.model.two_way_transformer import Attention, TwoWayAttentionBlock
from sam_core.model.upscaling import cells_to_rows, draw_cells, upscaling_of


class SharedCrops(NamedTuple):
    """B crops as their prompts see them before the first layer; L = h * w positions, C channels, H heads.

    image: [B, L, C]. positions: [1, L, C]. keys, values, queries: projected for the first layer, [B, H, L, d].
    fine: fine features in the order of drawing, [B, 4 L, C/4] and [B, 16 L, C/8], or ().
    """

    image: Tensor
    positions: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor
    fine: tuple[Tensor, ...]

    def take(self, crops: Tensor) -> SharedCrops:
        """The crops at int64 [G], without their fine features."""
        return SharedCrops(
            self.image[crops], self.positions, self.keys[crops], self.values[crops], self.queries[crops], ()
        )


class GroupedDecoder:
    """A view of a `MaskDecoder` with its multimask outputs; holds no weights of its own.

    dtype: of everything that has L positions.
    """

    def __init__(self, decoder: MaskDecoder, *, dtype: torch.dtype = torch.float32) -> None:
        self.decoder = decoder
        self.dtype = dtype

    def share(self, features: ImageFeatures, image_pe: Tensor, dense: Tensor) -> SharedCrops:
        """What all prompts on a crop have in common: features of B crops, image_pe [1, C, h, w], dense [1, C, 1, 1]."""
        image = (features.embedding + dense).flatten(2).transpose(1, 2).to(self.dtype).contiguous()
        positions = image_pe.flatten(2).transpose(1, 2).to(self.dtype).contiguous()
        read, write = self._layers[0].cross_attn_token_to_image, self._layers[0].cross_attn_image_to_token
        fine = (torch.stack([by_cell(each, 2**n) for each in level]) for n, level in enumerate(features.fine, start=1))
        return SharedCrops(
            image=image,
            positions=positions,
            keys=split_heads(read.k_proj(image + positions), read.num_heads).contiguous(),
            values=split_heads(read.v_proj(image), read.num_heads).contiguous(),
            queries=split_heads(write.q_proj(image + positions), write.num_heads).contiguous(),
            fine=tuple(level.flatten(1, -2).to(self.dtype) for level in fine),
        )

    def decode(self, shared: SharedCrops, sparse: Tensor) -> DecodedPrompts:
        """Sparse prompts [G * P, T, C] on the G crops of `shared`, P on each in turn; draws no mask."""
        decoder = self.decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        token_pe = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        tokens, image, placed = self._first_layer(shared, token_pe)
        for layer in self._layers[1:]:
            tokens, image, placed = self._layer(layer, tokens, image, placed, token_pe, shared.positions)
        seen = _read(decoder.transformer.final_attn_token_to_image, tokens + token_pe, placed, image)
        tokens = decoder.transformer.norm_final_attn(tokens + seen)
        iou = decoder.iou_prediction_head(tokens[:, 0])[:, 1:]
        return DecodedPrompts(iou, tokens[:, 1 : len(own)][:, 1:], (image,))

    def draw(
        self, shared: SharedCrops, decoded: DecodedPrompts, prompts: Tensor, crops: Tensor, masks: Tensor
    ) -> Tensor:
        """Low-resolution logits float32 [K, 4h, 4w] of chosen masks, of grids as high as wide.

        prompts: int64 [D], those of the decoded of which anything is drawn. crops: int64 [D], the crop of each in
        `shared`. masks: int64 [K], which of their D * M masks.
        """
        heads = list(self.decoder.output_hypernetworks_mlps)[1:]
        chosen = decoded.masks[prompts].unbind(1)
        filters = torch.stack([head(mask) for head, mask in zip(heads, chosen, strict=True)], dim=1)
        fine = tuple(level[crops] for level in shared.fine)
        cells = draw_cells(decoded.image[0][prompts], filters, upscaling_of(self.decoder.output_upscaling), fine)
        side = isqrt(decoded.image[0].shape[1])
        return cells_to_rows(cells.flatten(0, 1)[masks].float(), (side, side))

    @property
    def _layers(self) -> list[TwoWayAttentionBlock]:
        return list(self.decoder.transformer.layers)  # type: ignore[arg-type]

    def _first_layer(self, shared: SharedCrops, token_pe: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer, where the image is still the same for all prompts of a group."""
        layer, groups = self._layers[0], len(shared.image)
        read, write = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        tokens = layer.norm1(layer.self_attn(token_pe, token_pe, token_pe))
        queries = _by_group(read.q_proj(tokens + token_pe), groups, read.num_heads)
        seen = F.scaled_dot_product_attention(queries.to(shared.keys.dtype), shared.keys, shared.values)
        attended = _by_prompt(seen, len(tokens)).transpose(1, 2).flatten(2)
        tokens = layer.norm2(tokens + read.out_proj(attended))
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        keys = _by_group(write.k_proj(tokens + token_pe), groups, write.num_heads)
        scores = (keys * keys.shape[-1] ** -0.5).to(shared.queries.dtype) @ shared.queries.transpose(2, 3)
        weights = weights_over_tokens(_by_prompt(scores, len(tokens)).flatten(1, 2), write.num_heads)
        update = torch.bmm(weights.transpose(1, 2), messages(write, tokens))
        image = shared.image.repeat_interleave(len(tokens) // groups, dim=0)
        return tokens, *self._residual_norm(image, update, layer, shared.positions)

    def _layer(
        self,
        layer: TwoWayAttentionBlock,
        tokens: Tensor,
        image: Tensor,
        placed: Tensor,
        token_pe: Tensor,
        positions: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A two-way layer after the first: tokens [N, T, C]; image without and with positions, each [N, L, C]."""
        queries = tokens + token_pe
        tokens = layer.norm1(tokens + layer.self_attn(queries, queries, tokens))
        seen = _read(layer.cross_attn_token_to_image, tokens + token_pe, placed, image)
        tokens = layer.norm2(tokens + seen)
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        update = _written(layer.cross_attn_image_to_token, placed, tokens + token_pe, tokens)
        return tokens, *self._residual_norm(image, update, layer, positions)

    def _residual_norm(
        self, image: Tensor, update: Tensor, layer: TwoWayAttentionBlock, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The image after a layer [N, L, C], and the same plus positions; summed in float32."""
        norm = layer.norm4
        out = F.layer_norm(image.float() + update.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return out.to(self.dtype), (out + positions.float()).to(self.dtype)


def _read(attention: Attention, tokens: Tensor, placed: Tensor, image: Tensor) -> Tensor:
    """What tokens [N, T, C] see in the image [N, L, C]: [N, T, C]."""
    weights = torch.bmm(reading_probes(attention, tokens), placed.transpose(1, 2)).softmax(-1)
    return what_was_read(attention, torch.bmm(weights, image))


def _written(attention: Attention, placed: Tensor, placed_tokens: Tensor, tokens: Tensor) -> Tensor:
    """What tokens [N, T, C] write into each of the image's positions [N, L, C]: [N, L, C]."""
    probes, offsets = writing_probes(attention, placed_tokens)
    scores = torch.baddbmm(offsets, probes, placed.transpose(1, 2))
    return torch.bmm(weights_over_tokens(scores, attention.num_heads).transpose(1, 2), messages(attention, tokens))


def _by_group(x: Tensor, groups: int, heads: int) -> Tensor:
    """[G * P, T, H * d] -> [G, H, P * T, d]: the prompts of a group as rows of one product."""
    return x.reshape(groups, -1, heads, x.shape[2] // heads).transpose(1, 2)


def _by_prompt(rows: Tensor, prompts: int) -> Tensor:
    """[G, H, P * T, x] -> [G * P, H, T, x]."""
    groups, heads, _, width = rows.shape
    return rows.view(groups, heads, prompts // groups, -1, width).transpose(1, 2).flatten(0, 1)
