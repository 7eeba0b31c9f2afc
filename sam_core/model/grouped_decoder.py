"""The absorbed mask decoder for prompts on several crops in one call, on tensors of fixed shapes.

Prompts come in groups of equal size, each on one crop: N = G * P prompts. What belongs to a crop alone is shared by the
prompts of a group and never copied per prompt. Arithmetic is that of `AbsorbedDecoder`, its part on images that of
`image_side`; there is no Python between the operations that depends on their values, so that `torch.compile` makes one
graph of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.model.absorbed_attention import (
    messages,
    reading_probes,
    split_heads,
    what_was_read,
    writing_probes,
)
from sam_core.model.absorbed_decoder import by_cell
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.image_side import ImageSide, TorchImageSide, Wanted, Writing
from sam_core.model.mask_decoder import MaskDecoder
from sam_core.model.two_way_transformer import TwoWayAttentionBlock
from sam_core.model.upscaling import upscaling_of


class SharedCrops(NamedTuple):
    """B crops as their prompts see them before the first layer; L = h * w positions, C channels, H heads.

    image: [B, L, C]. positions: [1, L, C]. keys, values: projected for the first layer, [B, H, L, d].
    fine: fine features in the order of drawing, [B, 4 L, C/4] and [B, 16 L, C/8], or ().
    """

    image: Tensor
    positions: Tensor
    keys: Tensor
    values: Tensor
    fine: tuple[Tensor, ...]

    def take(self, crops: Tensor) -> SharedCrops:
        """The crops at int64 [G], without their fine features."""
        return SharedCrops(self.image[crops], self.positions, self.keys[crops], self.values[crops], ())


class DecodedGroups(NamedTuple):
    """N prompts after the transformer: iou [N, M], filters of masks [N, M, C/8], and the image of each, [N, L, C]."""

    iou: Tensor
    filters: Tensor
    image: Tensor


class GroupedDecoder:
    """A view of a `MaskDecoder` with its multimask outputs; holds no weights of its own.

    dtype: of everything that has L positions. image_side: what works on that.
    """

    def __init__(
        self, decoder: MaskDecoder, *, dtype: torch.dtype = torch.float32, image_side: ImageSide | None = None
    ) -> None:
        self.decoder = decoder
        self.dtype = dtype
        self.image_side = image_side or TorchImageSide()

    def share(self, features: ImageFeatures, image_pe: Tensor, dense: Tensor) -> SharedCrops:
        """What all prompts on a crop have in common: features of B crops, image_pe [1, C, h, w], dense [1, C, 1, 1]."""
        image = (features.embedding + dense).flatten(2).transpose(1, 2).to(self.dtype).contiguous()
        positions = image_pe.flatten(2).transpose(1, 2).to(self.dtype).contiguous()
        read = self._layers[0].cross_attn_token_to_image
        fine = (torch.stack([by_cell(each, 2**n) for each in level]) for n, level in enumerate(features.fine, start=1))
        return SharedCrops(
            image=image,
            positions=positions,
            keys=split_heads(read.k_proj(image + positions), read.num_heads).contiguous(),
            values=split_heads(read.v_proj(image), read.num_heads).contiguous(),
            fine=tuple(level.flatten(1, -2).to(self.dtype) for level in fine),
        )

    def decode(self, shared: SharedCrops, sparse: Tensor) -> DecodedGroups:
        """Sparse prompts [G * P, T, C] on the G crops of `shared`, P on each in turn; draws no mask."""
        decoder, side, positions = self.decoder, self.image_side, shared.positions
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        token_pe = torch.cat([own.expand(len(sparse), -1, -1), sparse], dim=1)
        tokens = self._first_tokens(shared, token_pe)
        image = side.write(shared.image, positions, _writing(self._layers[0], tokens, token_pe), self._layers[0].norm4)
        for layer in self._layers[1:]:
            queries = tokens + token_pe
            tokens = layer.norm1(tokens + layer.self_attn(queries, queries, tokens))
            read = layer.cross_attn_token_to_image
            seen = side.read(image, positions, reading_probes(read, tokens + token_pe))
            tokens = layer.norm2(tokens + what_was_read(read, seen))
            tokens = layer.norm3(tokens + layer.mlp(tokens))
            image = side.write(image, positions, _writing(layer, tokens, token_pe), layer.norm4)
        asked = [0, *range(2, len(own))]  # nobody reads what the other tokens see at the end
        last, tokens = decoder.transformer.final_attn_token_to_image, tokens[:, asked]
        seen = side.read(image, positions, reading_probes(last, tokens + token_pe[:, asked]))
        tokens = decoder.transformer.norm_final_attn(tokens + what_was_read(last, seen))
        heads = list(decoder.output_hypernetworks_mlps)[1:]
        filters = [head(mask) for head, mask in zip(heads, tokens[:, 1:].unbind(1), strict=True)]
        return DecodedGroups(decoder.iou_prediction_head(tokens[:, 0])[:, 1:], torch.stack(filters, dim=1), image)

    def draw(self, shared: SharedCrops, decoded: DecodedGroups, wanted: Wanted) -> Tensor:
        """Low-resolution logits float32 [K, 4h, 4w] of wanted masks, of grids as high as wide."""
        upscaling = upscaling_of(self.decoder.output_upscaling)
        return self.image_side.draw(decoded.image, decoded.filters, upscaling, shared.fine, wanted)

    @property
    def _layers(self) -> list[TwoWayAttentionBlock]:
        return list(self.decoder.transformer.layers)  # type: ignore[arg-type]

    def _first_tokens(self, shared: SharedCrops, token_pe: Tensor) -> Tensor:
        """Tokens of the first layer, where the image is still the same for all prompts of a group."""
        layer, groups = self._layers[0], len(shared.image)
        read = layer.cross_attn_token_to_image
        tokens = layer.norm1(layer.self_attn(token_pe, token_pe, token_pe))
        queries = _by_group(read.q_proj(tokens + token_pe), groups, read.num_heads)
        seen = F.scaled_dot_product_attention(queries.to(shared.keys.dtype), shared.keys, shared.values)
        attended = _by_prompt(seen, len(tokens)).transpose(1, 2).flatten(2)
        tokens = layer.norm2(tokens + read.out_proj(attended))
        out: Tensor = layer.norm3(tokens + layer.mlp(tokens))
        return out


def _writing(layer: TwoWayAttentionBlock, tokens: Tensor, token_pe: Tensor) -> Writing:
    """What the tokens of a layer [N, T, C] write into the image."""
    write = layer.cross_attn_image_to_token
    return Writing(*writing_probes(write, tokens + token_pe), messages(write, tokens), write.num_heads)


def _by_group(x: Tensor, groups: int, heads: int) -> Tensor:
    """[G * P, T, H * d] -> [G, H, P * T, d]: the prompts of a group as rows of one product."""
    return x.reshape(groups, -1, heads, x.shape[2] // heads).transpose(1, 2)


def _by_prompt(rows: Tensor, prompts: int) -> Tensor:
    """[G, H, P * T, x] -> [G * P, H, T, x]."""
    groups, heads, _, width = rows.shape
    return rows.view(groups, heads, prompts // groups, -1, width).transpose(1, 2).flatten(0, 1)
