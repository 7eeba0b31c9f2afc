"""What is set on a model before training: a decoder whose clicks are local at once, and stochastic depth."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from sam_core.model.layers import DropPath
from sam_core.model.sam import Sam
from sam_core.model.two_way_transformer import Attention, TwoWayAttentionBlock

_LAYERS = "mask_decoder.transformer.layers."
_LAYER = re.compile(rf"{re.escape(_LAYERS)}(\d+)\.")


@torch.no_grad()
def align_cross_attention(sam: Sam) -> None:
    """Let every cross-attention between tokens and image begin with equal query and key projections.

    Fourier positions are alike where places are near, so the score of a click for an image position then falls with
    their distance from the first step on, instead of being random. Saves the first thousand steps of a small run.

    sam: a freshly initialised model. Its projections are doubled, too, so that scores are four times as large.
    """
    transformer = sam.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        assert isinstance(layer, TwoWayAttentionBlock)
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        assert isinstance(attention, Attention)
        attention.q_proj.weight *= 2
        attention.k_proj.weight.copy_(attention.q_proj.weight)


def deepened(state: Mapping[str, Tensor], *, depth: int) -> dict[str, Tensor]:
    """The state of a model whose mask decoder has `depth` two-way layers, out of one with as many or fewer.

    Each layer that is missing becomes a copy of the last one; it needs training.
    """
    grown = dict(state)
    layers = 1 + max(int(match[1]) for name in state if (match := _LAYER.match(name)))
    for name, tensor in state.items():
        if name.startswith(f"{_LAYERS}{layers - 1}."):
            for layer in range(layers, depth):
                grown[name.replace(f"{_LAYERS}{layers - 1}.", f"{_LAYERS}{layer}.", 1)] = tensor.clone()
    return grown


def set_drop_path(sam: Sam, rate: float) -> None:
    """Let the encoder's blocks be dropped in training, the last at `rate`, growing linearly from 0 at the first."""
    layers = [module for module in sam.image_encoder.modules() if isinstance(module, DropPath)]
    for index, layer in enumerate(layers):
        layer.rate = rate * index / max(1, len(layers) - 1)
