# ruff: noqa: N803
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""`image_side` as Triton kernels: every step reads the image of a prompt once and writes it at most once.

Scores, weights, norms and the pixels between two upscalings stay in registers: at 4,096 positions and 256 channels a
prompt's image is 2 MB in bfloat16, and each pass of torch over a thousand of them takes a millisecond.
"""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

from sam_core.model.image_side import Wanted, Writing
from sam_core.model.triton_shared import LEAST, LOG2_E
from sam_core.model.triton_tiling import Tiled, Tiling
from sam_core.model.upscaling import Upscaling

WRITTEN = 512
"""Positions that a program writes, so that probes and messages are loaded a few times only."""


class TritonImageSide:
    """See `ImageSide`."""

    def write(self, image: Tensor, positions: Tensor, writing: Writing, norm: nn.LayerNorm) -> Tensor:
        """See `ImageSide`."""
        heads, tokens = writing.heads, writing.probes.shape[1] // writing.heads
        wide = max(triton.next_power_of_2(tokens), -(-LEAST // heads))
        probes, messages = (
            _by_head(each.to(image.dtype), heads, wide, 0.0) for each in (writing.probes, writing.messages)
        )
        offsets = _by_head(writing.offsets.float(), heads, wide, float("-inf"))
        out: Tensor = write_into(image, positions, probes, offsets, messages, norm.weight, norm.bias, norm.eps, heads)
        return out

    def read(self, image: Tensor, positions: Tensor, probes: Tensor) -> Tensor:
        """See `ImageSide`."""
        out: Tensor = read_from(image, positions, probes.to(image.dtype).contiguous())
        return out

    def draw(
        self, image: Tensor, filters: Tensor, upscaling: Upscaling, fine: tuple[Tensor, ...], wanted: Wanted
    ) -> Tensor:
        """See `ImageSide`."""
        (_, length, channels), (_, outputs, depth), side = image.shape, filters.shape, isqrt(image.shape[1])
        prompts, crops, masks = wanted
        places = torch.full((len(prompts) * outputs,), -1, dtype=torch.int32, device=image.device)
        places[masks] = torch.arange(len(masks), dtype=torch.int32, device=image.device)
        out = torch.empty(len(masks), 4 * side, 4 * side, device=image.device)
        middle, norm = len(upscaling.bias_8), upscaling.norm
        to_8, to_4 = (each.to(image.dtype).contiguous() for each in (upscaling.to_8, upscaling.to_4))
        DRAW.launch(
            lambda sizes: (triton.cdiv(length, sizes["POSITIONS"]), len(prompts)),
            image, prompts, crops, filters.to(image.dtype).contiguous(), places, to_8, upscaling.bias_8,
            *(fine or (image, image)), norm.weight, norm.bias, to_4, upscaling.bias_4, out,
            norm.eps, length, side, channels, middle, depth, outputs,
            FINE=bool(fine), C=triton.next_power_of_2(channels), MIDDLE=max(LEAST, triton.next_power_of_2(middle)),
            DEPTH=max(LEAST, triton.next_power_of_2(depth)), OUTPUTS=max(LEAST // 4, triton.next_power_of_2(outputs)),
        )  # fmt: skip
        return out


def _by_head(rows: Tensor, heads: int, wide: int, fill: float) -> Tensor:
    """[N, H * T, C] -> [N, H * wide, C], every head filled up."""
    by_head = rows.unflatten(1, (heads, -1))
    return F.pad(by_head, (0, 0, 0, wide - by_head.shape[2]), value=fill).flatten(1, 2).contiguous()


@torch.library.custom_op("sam_core::write_into", mutates_args=())
def write_into(
    image: Tensor,
    positions: Tensor,
    probes: Tensor,
    offsets: Tensor,
    messages: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    heads: int,
) -> Tensor:
    """The image [B, L, C] of N prompts after writing; probes and messages [N, H * T, C], offsets [N, H * T, 1]."""
    length, channels = image.shape[1:]
    prompts, rows, _ = probes.shape
    out = image.new_empty(prompts, length, channels)
    WRITE.launch(
        lambda _: (triton.cdiv(length, WRITTEN), prompts),
        image, positions, probes, offsets, messages, weight, bias, out, eps, length, channels, prompts // len(image),
        HEADS=heads, ROWS=rows, C=triton.next_power_of_2(channels), WRITTEN=WRITTEN,
    )  # fmt: skip
    return out


@write_into.register_fake
def _(image: Tensor, _positions: Tensor, probes: Tensor, *_: object) -> Tensor:
    return image.new_empty(len(probes), *image.shape[1:])


@torch.library.custom_op("sam_core::read_from", mutates_args=())
def read_from(image: Tensor, positions: Tensor, probes: Tensor) -> Tensor:
    """What probes [N, P, C] find in the image [N, L, C]: [N, P, C]."""
    prompts, rows, channels = probes.shape
    out = torch.empty_like(probes)
    READ.launch(
        lambda _: (prompts,),
        image, positions, probes, out, image.shape[1], rows, channels,
        ROWS=max(LEAST, triton.next_power_of_2(rows)), C=triton.next_power_of_2(channels),
    )  # fmt: skip
    return out


@read_from.register_fake
def _(_image: Tensor, _positions: Tensor, probes: Tensor) -> Tensor:
    return torch.empty_like(probes)


@triton.jit
def _normed(x, own, width, weight_ptr, bias_ptr, channel, eps):
    """Layer norm of rows of x, of which `own` columns count."""
    x = tl.where(own[None, :], x, 0.0)
    mean = tl.sum(x, 1) / width
    apart = tl.where(own[None, :], x - mean[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(apart * apart, 1) / width + eps)
    weight = tl.load(weight_ptr + channel, mask=own, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=own, other=0.0).to(tl.float32)
    return apart * scale[:, None] * weight[None, :] + bias[None, :]


@triton.jit
def _gelu(x, ROUNDED: tl.constexpr):
    """Rounded: to 1.3e-4, where bfloat16 holds the result; erf is exact, and more instructions.

    The normal distribution's integral is 1/2 + x q(x^2) up to 4, with q of degree 7 that is least wrong there and right
    at 4.
    """
    if ROUNDED:
        near = tl.minimum(tl.maximum(x, -4.0), 4.0)
        square = near * near
        q = -1.2867290072659326e-09
        q = q * square + 1.0495898153027558e-07
        q = q * square - 3.721738241080455e-06
        q = q * square + 7.633406713424343e-05
        q = q * square - 0.0010219513254420241
        q = q * square + 0.009584277940225455
        q = q * square - 0.06606809187547777
        q = q * square + 0.39880710403027375
        return x * (near * q + 0.5)
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _write(
    image_ptr, positions_ptr, probes_ptr, offsets_ptr, messages_ptr, weight_ptr, bias_ptr, out_ptr,
    eps, length, channels, sharing,
    HEADS: tl.constexpr, ROWS: tl.constexpr, C: tl.constexpr, POSITIONS: tl.constexpr, WRITTEN: tl.constexpr,
):  # fmt: skip
    """Some positions of one prompt: scores of its tokens, softmax over those of a head, their messages, the norm."""
    prompt = tl.program_id(1).to(tl.int64)
    row, channel = tl.arange(0, ROWS), tl.arange(0, C)
    own = channel < channels
    there = prompt * ROWS * channels + row[:, None] * channels + channel[None, :]
    probes = tl.load(probes_ptr + there, mask=own[None, :], other=0.0)
    messages = tl.load(messages_ptr + there, mask=own[None, :], other=0.0)
    offsets = tl.load(offsets_ptr + prompt * ROWS + row)
    image_here = image_ptr + (prompt // sharing) * length * channels
    for start in range(tl.program_id(0) * WRITTEN, tl.program_id(0) * WRITTEN + WRITTEN, POSITIONS):
        position = start + tl.arange(0, POSITIONS)
        here = position[:, None] * channels + channel[None, :]
        seen = (position < length)[:, None] & own[None, :]
        before = tl.load(image_here + here, mask=seen, other=0.0).to(tl.float32)
        place = tl.load(positions_ptr + here, mask=seen, other=0.0).to(tl.float32)
        placed = (before + place).to(probes.dtype)
        scores = tl.dot(placed, tl.trans(probes), input_precision="ieee") + offsets[None, :]
        by_head = tl.reshape(scores, [POSITIONS, HEADS, ROWS // HEADS])
        by_head = tl.exp2((by_head - tl.max(by_head, 2, keep_dims=True)) * LOG2_E)
        weights = tl.reshape(by_head / tl.sum(by_head, 2, keep_dims=True), [POSITIONS, ROWS])
        after = tl.dot(weights.to(messages.dtype), messages, before, input_precision="ieee")
        after = _normed(after, own, channels, weight_ptr, bias_ptr, channel, eps)
        out_here = out_ptr + prompt * length * channels + here
        tl.store(out_here, after.to(out_ptr.dtype.element_ty), mask=seen)


@triton.jit
def _read(
    image_ptr, positions_ptr, probes_ptr, out_ptr, length, rows, channels,
    ROWS: tl.constexpr, C: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """All positions of one prompt, softmax by running maximum and sum (Dao et al. 2022)."""
    prompt = tl.program_id(0).to(tl.int64)
    row, channel = tl.arange(0, ROWS), tl.arange(0, C)
    there = row[:, None] * channels + channel[None, :]
    asked = (row < rows)[:, None] & (channel < channels)[None, :]
    probes = tl.load(probes_ptr + prompt * rows * channels + there, mask=asked, other=0.0)
    image_here = image_ptr + prompt * length * channels
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total, mixed = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, C], tl.float32)
    for start in range(0, length, POSITIONS):
        position = start + tl.arange(0, POSITIONS)
        here = position[:, None] * channels + channel[None, :]
        seen = (position < length)[:, None] & (channel < channels)[None, :]
        image = tl.load(image_here + here, mask=seen, other=0.0)
        place = tl.load(positions_ptr + here, mask=seen, other=0.0)
        placed = (image.to(tl.float32) + place.to(tl.float32)).to(probes.dtype)
        scores = tl.dot(probes, tl.trans(placed), input_precision="ieee") * LOG2_E
        scores = tl.where((position < length)[None, :], scores, float("-inf"))
        above = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - above[:, None])
        shrink = tl.exp2(largest - above)
        total = total * shrink + tl.sum(weights, 1)
        mixed = tl.dot(weights.to(image.dtype), image, mixed * shrink[:, None], input_precision="ieee")
        largest = above
    out_here = out_ptr + prompt * rows * channels + there
    tl.store(out_here, (mixed / total[:, None]).to(out_ptr.dtype.element_ty), mask=asked)


@triton.jit
def _draw(
    image_ptr, prompts_ptr, crops_ptr, filters_ptr, places_ptr, to_8_ptr, bias_8_ptr, fine_8_ptr, fine_4_ptr,
    weight_ptr, bias_ptr, to_4_ptr, bias_4_ptr, out_ptr, eps, length, side, channels, middle, depth, outputs,
    FINE: tl.constexpr, C: tl.constexpr, MIDDLE: tl.constexpr, DEPTH: tl.constexpr, OUTPUTS: tl.constexpr,
    POSITIONS: tl.constexpr,
):  # fmt: skip
    """Some cells of one prompt: the four pixels of each at stride 8, the four parts of each of those, the filters.

    The four parts are drawn by one product: its columns are part by part the outputs, and a part's channels meet the
    filters in the columns of that part only.
    """
    place = tl.program_id(1)
    prompt, crop = tl.load(prompts_ptr + place).to(tl.int64), tl.load(crops_ptr + place).to(tl.int64)
    channel, mid = tl.arange(0, C), tl.arange(0, MIDDLE)
    part, deep = tl.arange(0, 4 * DEPTH) // DEPTH, tl.arange(0, 4 * DEPTH) % DEPTH
    drawn, output = tl.arange(0, 4 * OUTPUTS) // OUTPUTS, tl.arange(0, 4 * OUTPUTS) % OUTPUTS
    position = tl.program_id(0) * POSITIONS + tl.arange(0, POSITIONS)
    inside = (position < length)[:, None]
    here = prompt * length * channels + position[:, None] * channels + channel[None, :]
    image = tl.load(image_ptr + here, mask=inside & (channel < channels)[None, :], other=0.0)
    filters_here = filters_ptr + (prompt * outputs + output[None, :]) * depth + deep[:, None]
    meets = (part[:, None] == drawn[None, :]) & (deep < depth)[:, None] & (output < outputs)[None, :]
    filters = tl.load(filters_here, mask=meets, other=0.0)
    mask = tl.load(places_ptr + place * outputs + output, mask=output < outputs, other=-1)
    bias_8 = tl.load(bias_8_ptr + mid, mask=mid < middle, other=0.0).to(tl.float32)
    bias_4 = tl.load(bias_4_ptr + deep, mask=deep < depth, other=0.0).to(tl.float32)
    to_4_here = to_4_ptr + mid[:, None] * 4 * depth + part[None, :] * depth + deep[None, :]
    to_4 = tl.load(to_4_here, mask=(mid < middle)[:, None] & (deep < depth)[None, :], other=0.0)
    pixel = (position // side) * 16 * side + (position % side) * 4
    out_here = out_ptr + mask.to(tl.int64)[None, :] * 16 * length + pixel[:, None]
    out_here += (drawn // 2 * 4 * side + drawn % 2)[None, :]
    for quarter in range(4):
        to_8_here = to_8_ptr + channel[:, None] * 4 * middle + quarter * middle + mid[None, :]
        to_8 = tl.load(to_8_here, mask=(channel < channels)[:, None] & (mid < middle)[None, :], other=0.0)
        at_8 = tl.dot(image, to_8, input_precision="ieee") + bias_8[None, :]
        if FINE:
            line = crop * 4 * length + position[:, None] * 4 + quarter
            at_8 += tl.load(fine_8_ptr + line * middle + mid[None, :], mask=inside & (mid < middle)[None, :], other=0.0)
        at_8 = _normed(at_8, mid < middle, middle, weight_ptr, bias_ptr, mid, eps)
        at_8 = _gelu(at_8, image.dtype == tl.bfloat16).to(image.dtype)
        at_4 = tl.dot(at_8, to_4, input_precision="ieee") + bias_4[None, :]
        if FINE:
            line = (crop * 16 * length + position[:, None] * 16 + quarter * 4 + part[None, :]) * depth
            at_4 += tl.load(fine_4_ptr + line + deep[None, :], mask=inside & (deep < depth)[None, :], other=0.0)
        at_4 = _gelu(at_4, image.dtype == tl.bfloat16).to(image.dtype)
        logits = tl.dot(at_4, filters, input_precision="ieee")
        at = quarter // 2 * 8 * side + quarter % 2 * 2
        tl.store(out_here + at, logits, mask=inside & (mask >= 0)[None, :])


WRITE = Tiled(_write, Tiling({"POSITIONS": 32}, 4, 2), Tiling({"POSITIONS": 32}, 4, 1))
READ = Tiled(_read, Tiling({"POSITIONS": 64}, 4, 3), Tiling({"POSITIONS": 32}, 4, 2))
DRAW = Tiled(_draw, Tiling({"POSITIONS": 128}, 8, 2), Tiling({"POSITIONS": 64}, 4, 2), Tiling({"POSITIONS": 32}, 4, 2))
"""On an H100 64 positions are written as fast as 32 and drawn half as fast as 128; 128 are read more slowly than 64."""
