"""The mask decoder for many prompts on one image: the same outputs for a fraction of the work.

What belongs to the image alone is computed once (`share`); projections of the image are absorbed into the tokens
(`absorbed_attention`); predicted IoU is read before anything is upscaled, so that only masks that pass are drawn.
Equal to `MaskDecoder` up to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

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
from sam_core.model.residual_norm import residual_norm
from sam_core.model.two_way_transformer import TwoWayAttentionBlock
from sam_core.model.upscaling import UNSEEN, cells_to_rows, draw_cells, draw_part, places_first, upscaling_of
from sam_core.model.vector_math import can_compile

POSITIONS_AT_ONCE = 576
"""Image positions that a CPU takes through all steps between two looks at the whole image, while in its cache."""
BYTES_AT_ONCE = 9 << 18
"""What these positions of some prompts take of that cache; so many prompts go through the image together. Tokens are
asked for all prompts at once, as the weights that they meet alone are as large as an image."""


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
    """N prompts after the transformer: iou [N, M] of the chosen outputs, masks [N, M, C].

    image: of each group of prompts, one after the other, in parts of whole rows of the grid, one below the other: n
        prompts and l positions are [n, l, C].
    """

    iou: Tensor
    masks: Tensor
    image: tuple[tuple[Tensor, ...], ...]

    @property
    def whole_image(self) -> Tensor:
        """[N, L, C]."""
        return joined([joined(parts, dim=1) for parts in self.image], dim=0)


class AbsorbedDecoder:
    """A view of a `MaskDecoder`; holds no weights of its own."""

    def __init__(self, decoder: MaskDecoder, *, multimask: bool = True) -> None:
        self.decoder = decoder
        self.outputs = slice(1, None) if multimask else slice(0, 1)
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
        so every part of the image is written and compared while it is in the cache.
        """
        decoder = self.decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        token_pe = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        tokens, update = self._first_layer(shared, token_pe)
        for layer in self._layers[1:]:
            queries = tokens + token_pe
            tokens = layer.norm1(tokens + layer.self_attn(queries, queries, tokens))
            read = layer.cross_attn_token_to_image
            image, pooled = _write_and_read(update, reading_probes(read, tokens + token_pe), shared)
            tokens = layer.norm2(tokens + what_was_read(read, pooled))
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            write = layer.cross_attn_image_to_token
            size = _group_size(shared, len(sparse))
            scored = (beside_first(x, write.num_heads).others for x in writing_probes(write, tokens + token_pe))
            probes, offsets = (x.split(size) for x in scored)
            groups = [_later_parts(*own, shared) for own in zip(probes, offsets, image, strict=True)]
            update = _Update(layer, beside_first(messages(write, tokens), write.num_heads), groups)
        asked = [0, *range(1, len(own))[self.outputs]]  # nobody reads what the other tokens see at the end
        last, tokens = decoder.transformer.final_attn_token_to_image, tokens[:, asked]
        image, pooled = _write_and_read(update, reading_probes(last, tokens + token_pe[:, asked]), shared)
        tokens = decoder.transformer.norm_final_attn(tokens + what_was_read(last, pooled))
        iou = decoder.iou_prediction_head(tokens[:, 0])[:, self.outputs]
        return DecodedPrompts(iou, tokens[:, 1:], image)

    def draw(self, shared: SharedImage, decoded: DecodedPrompts, wanted: Tensor) -> Tensor:
        """Low-resolution logits [K, 4h, 4w] of the K wanted masks, bool [N, M], in row-major order.

        On a CPU only the cells that hold any of the crop are drawn; elsewhere stands UNSEEN.
        """
        prompts = wanted.any(1)
        filters = self.filters(decoded.masks[prompts])
        if can_compile(filters):
            return self._draw_seen(shared, decoded, filters, wanted)
        image = decoded.whole_image[prompts]
        fine = tuple(level.flatten(0, -2) for level in shared.fine)
        cells = draw_cells(image, filters, self.upscaling, fine)[wanted[prompts]]
        return cells_to_rows(cells, shared.grid)

    def filters(self, masks: Tensor) -> Tensor:
        """What the image is multiplied with to draw masks [N, M, C] of the chosen outputs: [N, M, C/8]."""
        heads = list(self.decoder.output_hypernetworks_mlps)[self.outputs]
        return torch.stack([head(mask) for head, mask in zip(heads, masks.unbind(1), strict=True)], dim=1)

    def _draw_seen(self, shared: SharedImage, decoded: DecodedPrompts, filters: Tensor, wanted: Tensor) -> Tensor:
        height, width = shared.grid
        out = filters.new_full((int(wanted.sum()), 4 * height, 4 * width), UNSEEN)
        drawn = torch.nonzero(wanted.any(1))[:, 0].tolist()
        chosen = [own[wanted[prompt]] for prompt, own in zip(drawn, filters, strict=True)]
        places = out.split([len(own) for own in chosen])
        by_prompt = [prompt for parts in decoded.image for prompt in zip(*parts, strict=True)]
        rows, columns = shared.seen
        for part, positions in enumerate(_parts(shared)):
            top, end = positions.start // width, min(positions.stop // width, rows)
            if end <= top:
                break
            fine = tuple(places_first(level[top:end, :columns]) for level in shared.fine)
            for prompt, own, place in zip(drawn, chosen, places, strict=True):
                cells = by_prompt[prompt][part].unflatten(0, (-1, width))[: end - top, :columns].flatten(0, 1)
                draw_part(cells, own, self.upscaling, fine, columns, place[:, 4 * top : 4 * end])
        return out

    @property
    def _layers(self) -> list[TwoWayAttentionBlock]:
        return list(self.decoder.transformer.layers)  # type: ignore[arg-type]

    def _first_layer(self, shared: SharedImage, token_pe: Tensor) -> tuple[Tensor, _Update]:
        """The first layer, where the image is still the same for all prompts: its projections are shared."""
        layer = self._layers[0]
        read, write = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        tokens = layer.norm1(layer.self_attn(token_pe, token_pe, token_pe))
        queries = _rows_by_head(read.q_proj(tokens + token_pe), read.num_heads)
        scale = queries.shape[-1] ** -0.5
        seen = F.scaled_dot_product_attention(queries[None], shared.keys[None], shared.values[None], scale=scale)[0]
        tokens = layer.norm2(tokens + read.out_proj(_by_prompt(seen, len(tokens)).transpose(1, 2).flatten(2)))
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        keys = split_heads(write.k_proj(tokens + token_pe), write.num_heads) * shared.queries.shape[-1] ** -0.5
        keys = keys[:, :, 1:] - keys[:, :, :1]
        groups = [_first_parts(own, shared) for own in keys.split(_group_size(shared, len(tokens)))]
        return tokens, _Update(layer, beside_first(messages(write, tokens), write.num_heads), groups)


class _Part(NamedTuple):
    """Some image positions that a layer writes into: which, the image before [N or 1, l, C], and the scores of the
    layer's tokens but the first there, more than its own, [N, H * (T - 1), l]."""

    positions: slice
    before: Tensor
    scores: Tensor


class _Update(NamedTuple):
    """What a layer's tokens write into the image. Groups of prompts compute their parts as they are asked for, once."""

    layer: TwoWayAttentionBlock
    messages: Beside
    groups: list[Iterator[_Part]]


def _write_and_read(
    update: _Update, probes: Tensor, shared: SharedImage
) -> tuple[tuple[tuple[Tensor, ...], ...], Tensor]:
    """The images after writing, and what probes [N, P, C] then read from all of each: pooled [N, P, C]."""
    size = _group_size(shared, len(probes))
    told = map(Beside, *(x.split(size) for x in update.messages))
    own = zip(update.groups, told, probes.split(size), strict=True)
    images, pooled = zip(*(_write_and_read_together(update.layer, *each, shared) for each in own), strict=True)
    return images, joined(pooled, dim=0)


def _write_and_read_together(
    layer: TwoWayAttentionBlock, parts: Iterator[_Part], told: Beside, probes: Tensor, shared: SharedImage
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The same for one group of prompts; told: their messages."""
    norm, heads = layer.norm4, layer.cross_attn_image_to_token.num_heads
    image, seen = [], []
    for (positions, before, own), (memory, scratch) in zip(parts, _memory(len(probes), shared), strict=True):
        written = torch.bmm(weights_beside_first(own, heads).transpose(1, 2), told.others, out=memory)
        part, placed = residual_norm(before, written, told.first, norm, shared.positions[:, positions], scratch)
        image.append(part)
        seen.append(torch.bmm(probes, placed.transpose(1, 2)))
    weights = joined(seen, dim=2).softmax(-1).split([part.shape[1] for part in image], dim=2)
    first, *others = [torch.bmm(own, part) for own, part in zip(weights, image, strict=True)]
    return tuple(image), sum(others, start=first)


def _first_parts(keys: Tensor, shared: SharedImage) -> Iterator[_Part]:
    """For the first layer, whose queries of the image are shared; keys: of n prompts' tokens, scaled and
    without the first's, [n, H, T - 1, d]."""
    rows = keys.transpose(0, 1).flatten(1, 2)
    for positions in _parts(shared):
        scores = _by_prompt(rows @ shared.queries[:, positions].transpose(1, 2), len(keys))
        yield _Part(positions, shared.image[:, positions], scores.flatten(1, 2))


def _later_parts(probes: Tensor, offsets: Tensor, image: tuple[Tensor, ...], shared: SharedImage) -> Iterator[_Part]:
    """For a later layer, which finds the image in parts; probes and offsets: of `writing_probes` beside the first's."""
    for positions, before, (_, scratch) in zip(_parts(shared), image, _memory(len(probes), shared), strict=True):
        placed = torch.add(before, shared.positions[:, positions], out=scratch)
        yield _Part(positions, before, torch.baddbmm(offsets, probes, placed.transpose(1, 2)))


def prompts_at_once(positions: int, channels: int) -> int:
    """How many prompts go through an image of [positions, channels] together on a CPU."""
    return max(1, BYTES_AT_ONCE // (4 * min(POSITIONS_AT_ONCE, positions) * channels))


def _group_size(shared: SharedImage, prompts: int) -> int:
    """How many of some prompts see the image together: all but on a CPU."""
    return prompts_at_once(*shared.image.shape[1:]) if can_compile(shared.image) else prompts


def _parts(shared: SharedImage) -> Iterator[slice]:
    """Positions in parts of whole rows, as many as a CPU's cache likes; all at once elsewhere."""
    height, width = shared.grid
    rows = max(1, POSITIONS_AT_ONCE // width) if can_compile(shared.image) else height
    for top in range(0, height, rows):
        yield slice(top * width, min(top + rows, height) * width)


def _memory(prompts: int, shared: SharedImage) -> Iterator[tuple[Tensor | None, Tensor | None]]:
    """For every part memory [N, l, C] to write it into and to place it in, the latter the same for all parts.

    Fresh memory for every step would cost a CPU more time than the arithmetic: the system clears it first.
    """
    channels = shared.image.shape[2]
    lengths = [positions.stop - positions.start for positions in _parts(shared)]
    if not can_compile(shared.image):
        yield from [(None, None)] * len(lengths)
        return
    whole, scratch = (shared.image.new_empty(prompts * length * channels) for length in (sum(lengths), max(lengths)))
    for length, part in zip(lengths, whole.split([prompts * length * channels for length in lengths]), strict=True):
        yield part.view(prompts, length, channels), scratch[: len(part)].view(prompts, length, channels)


def _rows_by_head(x: Tensor, heads: int) -> Tensor:
    """[N, T, H * d] -> [H, N * T, d]: all prompts as rows of one product, so that nothing shared is copied."""
    return x.view(*x.shape[:2], heads, -1).permute(2, 0, 1, 3).flatten(1, 2)


def _by_prompt(rows: Tensor, prompts: int) -> Tensor:
    """[H, N * T, x] -> [N, H, T, x]."""
    return rows.view(len(rows), prompts, -1, rows.shape[2]).transpose(0, 1)


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """Parts one after the other; no copy of one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def by_cell(fine: Tensor, factor: int) -> Tensor:
    """Fine features [C, h * factor, w * factor] in the order in which `_scatter` makes pixels, channels last."""
    channels, height, width = fine.shape
    if factor == 2:
        return fine.view(channels, height // 2, 2, width // 2, 2).permute(1, 3, 2, 4, 0).contiguous()
    cells = fine.view(channels, height // 4, 2, 2, width // 4, 2, 2)
    return cells.permute(1, 4, 2, 5, 3, 6, 0).contiguous()
