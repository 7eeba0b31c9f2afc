"""What resolved settings stand for: the attention, the compiled forms of encoder and decoder, the tracer of masks.

Kernels in Triton are imported where they are asked for; the package is not everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sam_core.device_settings import DeviceSettings
from sam_core.geometry import Frame
from sam_core.masks.tracing import TorchTracer, Tracer
from sam_core.model.absorbed_decoder import DecodedPrompts
from sam_core.model.device_encoder import DeviceEncoder
from sam_core.model.flex_attention import attend_flex
from sam_core.model.grouped_decoder import GroupedDecoder, SharedCrops
from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.relative_attention import Attend, attend
from sam_core.model.sam import Sam
from sam_core.recipes import Recipe

Encode = Callable[[Tensor, Tensor], ImageFeatures]
Decode = Callable[[SharedCrops, Tensor], DecodedPrompts]


def round_matrices(sam: Sam, dtype: torch.dtype) -> Sam:
    """The model with the weights of its products in `dtype`, in place; norms, embeddings and positions stay float32."""
    if dtype != torch.float32:
        for layer in sam.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                layer.to(dtype)
    return sam


def attention_of(settings: DeviceSettings) -> Attend:
    """The attention of the image encoder."""
    match settings.attention:
        case "flex":
            return attend_flex
        case _:
            return attend


def encoder_of(encoder: DeviceEncoder, settings: DeviceSettings) -> Encode:
    """The encoder, compiled for one shape if so set. A replayed graph answers in its own memory: that is copied."""
    if settings.compile == "off":
        return encoder
    if settings.compile == "on":
        return torch.compile(encoder, dynamic=False)
    replayed = torch.compile(encoder, dynamic=False, mode="reduce-overhead")

    def encode(pixels: Tensor, sizes: Tensor) -> ImageFeatures:
        torch.compiler.cudagraph_mark_step_begin()
        features = replayed(pixels, sizes)
        return ImageFeatures(features.embedding.clone(), tuple(level.clone() for level in features.fine))

    return encode


def decoder_of(decoder: GroupedDecoder, settings: DeviceSettings) -> Decode:
    """The transformer of the decoder, compiled for one shape if so set."""
    return decoder.decode if settings.compile == "off" else torch.compile(decoder.decode, dynamic=False)


def tracer_of(settings: DeviceSettings, sam: Sam, frames: Sequence[Frame], recipe: Recipe) -> Tracer:
    """What measures and encodes the masks of a batch of crops."""
    if settings.masks == "triton":
        from sam_core.masks.triton_tracing import TritonTracer

        return TritonTracer(frames, offset=recipe.stability_offset, low_res=sam.config.low_res_size, device=sam.device)
    return TorchTracer(frames, offset=recipe.stability_offset)
