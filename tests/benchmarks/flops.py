"""What a model has to compute, in multiply-accumulates (MAC), and how fast a machine multiplies matrices.

Counted are matrix products and convolutions; a MAC is 2 FLOP. The encoder's count is that of the released code, whose
padded windows are multiplied too; the mask decoder has two, as released and as `AbsorbedDecoder` does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sam_core.llvm_tiles import has_tiles
from sam_core.model.conv_stem import BLOCKS, STEM_WIDTHS
from sam_core.model.split_products import multiply, split_columns
from sam_core.model.tiny_vit import STAGE_STRIDES
from sam_core.presets import EncoderConfig, ImageEncoderConfig, MaskDecoderConfig, SamConfig, TinyEncoderConfig
from tests.benchmarks.clock import clock_of

CLICK_TOKENS = 2  # a click and the padding point behind it


def encoder_macs(config: EncoderConfig) -> int:
    """MACs of encoding one crop."""
    return tiny_encoder_macs(config) if isinstance(config, TinyEncoderConfig) else plain_encoder_macs(config)


def plain_encoder_macs(config: ImageEncoderConfig) -> int:
    """MACs of the plain ViT."""
    tokens = config.grid**2
    blocks = sum(block_macs(config, index) for index in range(config.depth))
    return stem_macs(config) + blocks + _neck_macs(tokens, config.embed_dim, config.out_chans)


def stem_macs(config: ImageEncoderConfig) -> int:
    """MACs from pixels to tokens, and to the fine features where there are any."""
    if config.stem == "patch":
        return config.grid**2 * config.embed_dim * 3 * config.patch_size**2
    macs, before = 0, 3
    for stride, width, blocks in zip((2, 4, 8), STEM_WIDTHS, BLOCKS, strict=True):
        macs += (config.image_size // stride) ** 2 * 9 * width * (before + 2 * blocks * width)
        before = width
    _, at_4, at_8 = STEM_WIDTHS
    fine = 4 * at_8 * (config.out_chans // 4) + 16 * at_4 * (config.out_chans // 8)
    return macs + config.grid**2 * (9 * at_8 * config.embed_dim + fine)


def block_macs(config: ImageEncoderConfig, index: int) -> int:
    """MACs of one transformer block, zeros that fill the last windows included."""
    dim, side = config.embed_dim, config.attention_side(index)
    windows = (-(-config.grid // side)) ** 2
    padded = windows * side**2
    projections = 4 * padded * dim**2
    attention = 2 * padded * side**2 * dim
    positions = 2 * padded * side * dim
    perceptron = 2 * config.grid**2 * dim * int(dim * config.mlp_ratio)
    return projections + attention + positions + perceptron


def tiny_encoder_macs(config: TinyEncoderConfig) -> int:
    """MACs of TinyViT: its stem, four stages, what lies between them, and the neck."""
    dims, sides = config.embed_dims, [config.image_size // stride for stride in STAGE_STRIDES]
    stem = 9 * dims[0] // 2 * (3 * (config.image_size // 2) ** 2 + dims[0] * sides[0] ** 2)
    blocks = sum(depth * tiny_block_macs(config, stage) for stage, depth in enumerate(config.depths))
    merges = sum(
        side**2 * before * after + following**2 * after * (9 + after)
        for (before, after), (side, following) in zip(pairwise(dims), pairwise(sides), strict=True)
    )
    return stem + blocks + merges + _neck_macs(sides[-1] ** 2, dims[-1], config.out_chans)


def tiny_block_macs(config: TinyEncoderConfig, stage: int) -> int:
    """MACs of one block of TinyViT; attention has zeros that fill the last windows, the rest has not."""
    dim, side = config.embed_dims[stage], config.image_size // STAGE_STRIDES[stage]
    if stage == 0:
        return side**2 * 4 * dim * (2 * dim + 9)
    window = config.window_sizes[stage]
    padded = (-(-side // window) * window) ** 2
    attention = padded * dim * (4 * dim + 2 * window**2)
    return attention + side**2 * dim * (9 + 2 * int(dim * config.mlp_ratio))


@dataclass(frozen=True, slots=True)
class DecoderMacs:
    """MACs of decoding: `share` once per crop, `ask` per prompt, `draw` per prompt of which a mask is drawn."""

    share: int
    ask: int
    draw: int

    def total(self, *, crops: int, prompts: int, drawn: int) -> int:
        """MACs for one image."""
        return crops * self.share + prompts * self.ask + drawn * self.draw


def released_decoder_macs(config: SamConfig) -> DecoderMacs:
    """The released decoder: every prompt by itself, all masks drawn."""
    decoder, pixels, tokens = config.mask_decoder, config.image_encoder.grid**2, _tokens(config.mask_decoder)
    dim = decoder.transformer_dim
    read = _attention(tokens, pixels, dim, dim // 2)
    write = _attention(pixels, tokens, dim, dim // 2)
    layer = _attention(tokens, tokens, dim, dim) + read + 2 * tokens * dim * decoder.mlp_dim + write
    return DecoderMacs(
        share=0,
        ask=decoder.depth * layer + read + _quality_macs(decoder),
        draw=_draw_macs(decoder, pixels, masks=decoder.num_multimask_outputs + 1),
    )


def absorbed_decoder_macs(config: SamConfig) -> DecoderMacs:
    """`AbsorbedDecoder`: the first layer's image side shared, the image side of the others absorbed into the tokens."""
    decoder, pixels, tokens = config.mask_decoder, config.image_encoder.grid**2, _tokens(config.mask_decoder)
    dim, inner, rows = decoder.transformer_dim, decoder.transformer_dim // 2, tokens * decoder.num_heads
    on_tokens = tokens * dim * inner  # one projection of the tokens, or its absorption of the image's
    own = _attention(tokens, tokens, dim, dim) + 2 * tokens * dim * decoder.mlp_dim
    written = (tokens - 1) * decoder.num_heads  # the first token stays unsaid
    messages = 2 * on_tokens + written * pixels * dim
    first = own + 3 * on_tokens + (3 * tokens - 1) * pixels * inner + messages
    read = 4 * on_tokens + 2 * rows * pixels * dim
    last_read = read * (1 + decoder.num_multimask_outputs) // tokens  # by the tokens of which an answer is made
    write = 2 * on_tokens + tokens * inner + written * pixels * dim + messages
    return DecoderMacs(
        share=3 * pixels * dim * inner,
        ask=first + (decoder.depth - 1) * (own + read + write) + last_read + _quality_macs(decoder),
        draw=_draw_macs(decoder, pixels, masks=decoder.num_multimask_outputs),
    )


def matrix_rate(device: str, *, dtype: torch.dtype = torch.float32) -> float:
    """FLOP per second of the clock of the device (CPU seconds on a CPU) in a product of large matrices, best of 5.

    Of float32 on a CPU by torch or, if that is faster there, by products taken apart.
    """
    side = 2048 if device == "cpu" else 8192
    a, b = torch.rand(2, side, side, device=device).to(dtype)
    products: list[Callable[[], Tensor]] = [lambda: a @ b]
    if device == "cpu" and dtype == torch.float32 and has_tiles():
        right, nothing = split_columns(b), torch.zeros(side)
        products.append(lambda: multiply(a, right, nothing))
    return 2 * side**3 / min(_seconds(device, product) for product in products)


def _seconds(device: str, product: Callable[[], Tensor]) -> float:
    seconds, times = clock_of(device), []
    for _ in range(6):  # the first one warms up
        start = seconds()
        product()
        times.append(seconds() - start)
    return min(times[1:])


def _neck_macs(positions: int, dim: int, out_chans: int) -> int:
    return positions * out_chans * (dim + 9 * out_chans)


def _tokens(decoder: MaskDecoderConfig) -> int:
    """Tokens of a click: predicted IoU, masks, the click itself."""
    return 1 + (decoder.num_multimask_outputs + 1) + CLICK_TOKENS


def _attention(queries: int, keys: int, dim: int, inner: int) -> int:
    return 2 * (queries + keys) * dim * inner + 2 * queries * keys * inner


def _quality_macs(decoder: MaskDecoderConfig) -> int:
    dim, hidden, outputs = decoder.transformer_dim, decoder.iou_head_hidden_dim, decoder.num_multimask_outputs + 1
    if decoder.iou_head_depth == 1:
        return dim * outputs
    return dim * hidden + (decoder.iou_head_depth - 2) * hidden**2 + hidden * outputs


def _draw_macs(decoder: MaskDecoderConfig, pixels: int, *, masks: int) -> int:
    """Two transposed convolutions to 16 times as many positions; for each mask a perceptron, and its filter on all."""
    dim = decoder.transformer_dim
    upscaling = pixels * dim * dim + pixels * dim * dim // 2
    return upscaling + masks * (2 * dim**2 + dim * dim // 8 + 2 * pixels * dim)
