"""What resolved settings stand for: the attention, the compiled forms of encoder and decoder, the tracer of masks.

Kernels in Triton are imported where they are asked for; the package is not everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from sam_core.device_settings import DeviceSettings
from sam_core.geometry import Frame
from sam_core.masks.tracing import TorchTracer, Tracer
from sam_core.model.device_encoder import DeviceEncoder
from sam_core.model.grouped_decoder import DecodedGroups, GroupedDecoder, SharedCrops
from sam_core.model.image_side import ImageSide, TorchImageSide, Wanted
from sam_core.model.relative_attention import Attend, attend_layer
from sam_core.model.sam import Sam
from sam_core.recipes import Recipe

Decode = Callable[[SharedCrops, Tensor], DecodedGroups]
Draw = Callable[[SharedCrops, DecodedGroups, Wanted], Tensor]


def round_matrices(sam: Sam, dtype: torch.dtype) -> Sam:
    """The model with the weights of its products in `dtype`, in place; norms, embeddings and positions stay float32."""
    if dtype != torch.float32:
        for layer in sam.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                layer.to(dtype)
    return sam


def attention_of(settings: DeviceSettings) -> Attend:
    """The attention of the image encoder."""
    if settings.attention == "triton":
        from sam_core.model.triton_attention import attend_triton

        return attend_triton
    return attend_layer


def encoder_of(sam: Sam, settings: DeviceSettings) -> DeviceEncoder:
    """The encoder; its parts compiled for one shape, a block for all blocks alike, if so set."""
    compiled = partial(torch.compile, dynamic=False)
    return DeviceEncoder(sam, attention_of(settings), compiled if settings.compile == "on" else None)


def decoder_of(sam: Sam, settings: DeviceSettings) -> GroupedDecoder:
    """The decoder with what works on images."""
    side: ImageSide = TorchImageSide()
    if settings.decoder == "triton":
        from sam_core.model.triton_image_side import TritonImageSide

        side = TritonImageSide()
    return GroupedDecoder(sam.mask_decoder, dtype=settings.torch_dtype, image_side=side)


def decode_of(decoder: GroupedDecoder, settings: DeviceSettings) -> Decode:
    """The transformer of the decoder, compiled for one shape if so set."""
    return decoder.decode if settings.compile == "off" else torch.compile(decoder.decode, dynamic=False)


def draw_of(decoder: GroupedDecoder, settings: DeviceSettings) -> Draw:
    """The drawing of the decoder, compiled for any number of prompts and masks if so set, unless it is a kernel."""
    if settings.compile == "off" or settings.decoder == "triton":
        return decoder.draw
    compiled = torch.compile(decoder.draw)

    def draw(shared: SharedCrops, decoded: DecodedGroups, wanted: Wanted) -> Tensor:
        for numbers in wanted:
            torch._dynamo.maybe_mark_dynamic(numbers, 0)
        return compiled(shared, decoded, wanted)

    return draw


def tracer_of(settings: DeviceSettings, sam: Sam, frames: Sequence[Frame], recipe: Recipe) -> Tracer:
    """What measures and encodes the masks of a batch of crops."""
    if settings.masks == "triton":
        from sam_core.masks.triton_tracing import TritonTracer

        return TritonTracer(frames, offset=recipe.stability_offset, low_res=sam.config.low_res_size, device=sam.device)
    return TorchTracer(frames, offset=recipe.stability_offset)
