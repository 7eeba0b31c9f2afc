"""The mask decoder for many prompts on one image: the same outputs for a fraction of the work.

What belongs to the image alone is computed once (`share`); projections of the image are absorbed into the tokens
(`absorbed_attention`); predicted IoU is read before anything is upscaled, so that only masks that pass are drawn.
Equal to `MaskDecoder` up to the rounding of float32, or of products taken apart where these are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_core.llvm_tiles import has_tiles
from sam_core.model import compiled_drawing, compiled_image_side, tiled_drawing, tiled_image_side
from sam_core.model.absorbed_attention import (
    Beside,
    beside_first,
    messages,
    reading_probes,
    split_heads,
    weights_beside_first,
    what_was_read,
    writing_probes,
)
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.mask_decoder import MaskDecoder
from sam_core.model.two_way_transformer import TwoWayAttentionBlock
from sam_core.model.upscaling import UNSEEN, cells_to_rows, draw_cells, upscaling_of
from sam_core.model.vector_math import can_compile

Update = Callable[[Tensor], tuple[Tensor, Tensor]]
"""What a layer's tokens write into the images of N prompts, done when somebody reads them: probes [N, P, C] -> the
images, [N, L, C], and what the probes find there, [N, P, C]."""


class SharedImage(NamedTuple):
    """One image as all its prompts see it before the first layer; L = h * w positions, C channels.

    image, positions: [1, L, C]. keys, values, queries: projected for the first layer, [H, L, d].
    fine: fine features by cell, [h, w, 2, 2, C/4] and [h, w, 2, 2, 2, 2, C/8], or ().
    grid: (h, w). seen: rows and columns of cells that hold any of the crop, from the top left; the rest is padding.
    """

    image: Tensor
    positions: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor
    fine: tuple[Tensor, ...]
    grid: tuple[int, int]
    seen: tuple[int, int]


class DecodedPrompts(NamedTuple):
    """N prompts after the transformer: iou [N, M] and masks [N, M, C] of the chosen outputs, image [N, L, C]."""

    iou: Tensor
    masks: Tensor
    image: Tensor


FOR_AMBIGUOUS = slice(1, None)
"""The outputs that a prompt such as a single click is answered with."""


class AbsorbedDecoder:
    """A view of some outputs of a `MaskDecoder`; holds no weights of its own."""

    def __init__(self, decoder: MaskDecoder, *, outputs: slice = FOR_AMBIGUOUS, split: bool = False) -> None:
        """split: be content with products to 3e-6 on the mean, where the CPU `has_tiles` (`split_products`)."""
        self.decoder = decoder
        self.outputs = outputs
        self._split = split
        self.upscaling = upscaling_of(decoder.output_upscaling)

    def share(
        self, features: ImageFeatures, image_pe: Tensor, dense: Tensor, *, seen: tuple[int, int] | None = None
    ) -> SharedImage:
        """What all prompts on one image have in common.

        Args:
            features: of one image, a batch of 1.
            image_pe: [1, C, h, w].
            dense: [1, C, 1, 1] or [1, C, h, w], the dense prompt that all prompts share.
            seen: rows and columns of cells that hold any of the crop; all by default.
        """
        image = (features.embedding + dense).flatten(2).transpose(1, 2).contiguous()
        positions = image_pe.flatten(2).transpose(1, 2).contiguous()
        first, grid = self._layers[0], (features.embedding.shape[2], features.embedding.shape[3])
        read, write = first.cross_attn_token_to_image, first.cross_attn_image_to_token
        return SharedImage(
            image=image,
            positions=positions,
            keys=split_heads(read.k_proj(image + positions), read.num_heads)[0],
            values=split_heads(read.v_proj(image), read.num_heads)[0],
            queries=split_heads(write.q_proj(image + positions), write.num_heads)[0],
            fine=tuple(by_cell(fine[0], 2**level) for level, fine in enumerate(features.fine, start=1)),
            grid=grid,
            seen=seen or grid,
        )

    def decode(self, shared: SharedImage, sparse: Tensor) -> DecodedPrompts:
        """Runs the transformer on sparse prompts [N, T, C] and reads the predicted IoU; draws no mask.

        A layer writes into the image before the next one reads it, and what the next one looks for is known by then:
        so every image is written and read while it is in the cache.
        """
        decoder = self.decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        token_pe = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        tokens, write = self._first_layer(shared, token_pe)
        for layer in self._layers[1:]:
            queries = tokens + token_pe
            tokens = layer.norm1(tokens + layer.self_attn(queries, queries, tokens))
            read = layer.cross_attn_token_to_image
            image, pooled = write(reading_probes(read, tokens + token_pe))
            tokens = layer.norm2(tokens + what_was_read(read, pooled))
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            write = self._later_update(layer, tokens, token_pe, image, shared.positions)
        asked = [0, *range(1, len(own))[self.outputs]]  # nobody reads what the other tokens see at the end
        last, tokens = decoder.transformer.final_attn_token_to_image, tokens[:, asked]
        image, pooled = write(reading_probes(last, tokens + token_pe[:, asked]))
        tokens = decoder.transformer.norm_final_attn(tokens + what_was_read(last, pooled))
        iou = decoder.iou_prediction_head(tokens[:, 0])[:, self.outputs]
        return DecodedPrompts(iou, tokens[:, 1:], image)

    def draw(self, shared: SharedImage, decoded: DecodedPrompts, wanted: Tensor) -> Tensor:
        """Low-resolution logits [K, 4h, 4w] of the K wanted masks, bool [N, M], in row-major order.

        On a CPU only the cells that hold any of the crop are drawn; elsewhere stands UNSEEN.
        """
        prompts = wanted.any(1)
        filters, chosen = self.filters(decoded.masks[prompts]), wanted[prompts]
        if _can_compile(decoded.image):
            height, width = shared.grid
            out = filters.new_full((int(chosen.sum()), 4 * height, 4 * width), UNSEEN)
            split = self._split and has_tiles() and tiled_drawing.can_draw(decoded.image.shape[-1])
            drawing = tiled_drawing if split else compiled_drawing
            of = torch.nonzero(wanted)[:, 0].contiguous()
            drawing.draw_seen(decoded.image, filters[chosen], of, self.upscaling, shared.fine, shared.seen, out)
            return out
        fine = tuple(level.flatten(0, -2) for level in shared.fine)
        cells = draw_cells(decoded.image[prompts], filters, self.upscaling, fine)[chosen]
        return cells_to_rows(cells, shared.grid)

    def filters(self, masks: Tensor) -> Tensor:
        """What the image is multiplied with to draw masks [N, M, C] of the chosen outputs: [N, M, C/8]."""
        heads = list(self.decoder.output_hypernetworks_mlps)[self.outputs]
        return torch.stack([head(mask) for head, mask in zip(heads, masks.unbind(1), strict=True)], dim=1)

    @property
    def _layers(self) -> list[TwoWayAttentionBlock]:
        return list(self.decoder.transformer.layers)  # type: ignore[arg-type]

    def _compiled(self, image: Tensor) -> ModuleType:
        split = self._split and has_tiles() and tiled_image_side.can_split_image(*image.shape[1:])
        return tiled_image_side if split else compiled_image_side

    def _first_layer(self, shared: SharedImage, token_pe: Tensor) -> tuple[Tensor, Update]:
        """The first layer, where the image is still the same for all prompts: its projections are shared."""
        layer = self._layers[0]
        read, write = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        tokens = layer.norm1(layer.self_attn(token_pe, token_pe, token_pe))
        queries = _rows_by_head(split_heads(read.q_proj(tokens + token_pe), read.num_heads))
        seen = F.scaled_dot_product_attention(queries[None], shared.keys[None], shared.values[None])[0]
        tokens = layer.norm2(tokens + read.out_proj(_by_prompt(seen, len(tokens)).transpose(1, 2).flatten(2)))
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        keys = split_heads(write.k_proj(tokens + token_pe), write.num_heads) * shared.queries.shape[-1] ** -0.5
        told = beside_first(messages(write, tokens), write.num_heads)
        beside = keys[:, :, 1:] - keys[:, :, :1]
        return tokens, partial(self._write_shared_and_read, shared, beside, told, layer.norm4)

    def _write_shared_and_read(
        self, shared: SharedImage, keys: Tensor, told: Beside, norm: nn.LayerNorm, probes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """An update into an image that is the same for all prompts; keys [N, H, T - 1, d], scaled and beside the
        first."""
        image, queries, positions = shared.image, shared.queries, shared.positions
        if _can_compile(image):
            compiled = self._compiled(image).write_shared_and_read
            return compiled(image, queries, keys, told, norm, positions, probes)  # type: ignore[no-any-return]
        scores = _by_prompt(_rows_by_head(keys) @ queries.transpose(1, 2), len(keys))
        return _write_and_read(image, scores.flatten(1, 2), keys.shape[1], told, norm, positions, probes)

    def _later_update(
        self, layer: TwoWayAttentionBlock, tokens: Tensor, token_pe: Tensor, image: Tensor, positions: Tensor
    ) -> Update:
        """What the tokens of a later layer write into the images [N, L, C], which it may do where they lie."""
        write, norm = layer.cross_attn_image_to_token, layer.norm4
        heads = write.num_heads
        compared, offsets = (beside_first(rows, heads).others for rows in writing_probes(write, tokens + token_pe))
        told = beside_first(messages(write, tokens), heads)
        if _can_compile(image):
            own = self._compiled(image).write_own_and_read
            return partial(own, image, (compared, offsets), heads, told, norm, positions)
        scores = torch.baddbmm(offsets, compared, (image + positions).transpose(1, 2))
        return partial(_write_and_read, image, scores, heads, told, norm, positions)


def _write_and_read(
    image: Tensor, scores: Tensor, heads: int, told: Beside, norm: nn.LayerNorm, positions: Tensor, probes: Tensor
) -> tuple[Tensor, Tensor]:
    """For any device and dtype; image [N or 1, L, C], scores [N, H * (T - 1), L] beside the first token's."""
    update = torch.bmm(weights_beside_first(scores, heads).transpose(1, 2), told.others) + told.first
    image = F.layer_norm(image + update, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return image, torch.bmm(torch.bmm(probes, (image + positions).transpose(1, 2)).softmax(-1), image)


def _can_compile(image: Tensor) -> bool:
    """Whether compiled passes can work on an image [..., C]: by 8 channels, of which drawing has a quarter."""
    return can_compile(image) and image.shape[-1] % 32 == 0


def _rows_by_head(x: Tensor) -> Tensor:
    """[N, H, T, d] -> [H, N * T, d]: all prompts as rows of one product, so that nothing shared is copied."""
    return x.transpose(0, 1).flatten(1, 2)


def _by_prompt(rows: Tensor, prompts: int) -> Tensor:
    """[H, N * T, x] -> [N, H, T, x]."""
    return rows.view(len(rows), prompts, -1, rows.shape[2]).transpose(0, 1)


def by_cell(fine: Tensor, factor: int) -> Tensor:
    """Fine features [C, h * factor, w * factor] in the order in which `_scatter` makes pixels, channels last."""
    channels, height, width = fine.shape
    if factor == 2:
        return fine.view(channels, height // 2, 2, width // 2, 2).permute(1, 3, 2, 4, 0).contiguous()
    cells = fine.view(channels, height // 4, 2, 2, width // 4, 2, 2)
    return cells.permute(1, 4, 2, 5, 3, 6, 0).contiguous()
