"""The mask decoder's upscaling and its product with the filters of wanted masks, for use after `absorbed_decoder`.

A transposed convolution whose stride equals its kernel is a linear map of each cell of the embedding, so cells can be
drawn in any order and number: on a CPU a few at a time, and only where the crop lies (`compiled_drawing`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import ConvTranspose2d

from sam_core.model.layers import LayerNorm2d

UNSEEN = -1e4
"""What stands for logits in the padding."""


class Upscaling(NamedTuple):
    """The weights of `output_upscaling` as linear maps of cells; C channels of the embedding.

    to_8: [C, 4 * C/4], bias_8: [C/4], norm: layer norm over C/4. to_4: [C/4, 4 * C/8], bias_4: [C/8].
    """

    to_8: Tensor
    bias_8: Tensor
    norm: LayerNorm2d
    to_4: Tensor
    bias_4: Tensor


def upscaling_of(layers: nn.Sequential) -> Upscaling:
    """The weights of a mask decoder's `output_upscaling`."""
    to_stride_8, norm, _, to_stride_4, _ = layers
    assert isinstance(norm, LayerNorm2d)
    return Upscaling(*_linear(to_stride_8), norm, *_linear(to_stride_4))


def draw_cells(image: Tensor, filters: Tensor, weights: Upscaling, fine: tuple[Tensor, ...]) -> Tensor:
    """Logits of every mask of P prompts, for any device and dtype.

    Args:
        image: [P, h * w, C].
        filters: [P, M, C/8].
        weights: of the upscaling.
        fine: [h * w * 4, C/4] and [h * w * 16, C/8], the pixels of a cell together, for all or [P, ...]; or ().

    Returns:
        [P, M, h * w * 16], the 4x4 pixels of a cell together, in the order of `fine`.
    """
    at_8, at_4 = fine or (0, 0)
    norm, (prompts, cells, _) = weights.norm, image.shape
    x = (image @ weights.to_8).view(prompts, 4 * cells, len(weights.bias_8)) + (weights.bias_8 + at_8)
    x = F.gelu(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
    x = F.gelu((x @ weights.to_4).view(prompts, 16 * cells, len(weights.bias_4)) + (weights.bias_4 + at_4))
    return torch.bmm(filters, x.transpose(1, 2))


def cells_to_rows(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Pixels in the order of cells [K, h * w * 16] -> rows of an image [K, 4h, 4w]."""
    x = cells.view(-1, *grid, 2, 2, 2, 2)
    return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(len(cells), 4 * grid[0], 4 * grid[1])


def _linear(convolution: nn.Module) -> tuple[Tensor, Tensor]:
    """A 2x2 transposed convolution with stride 2 as a map of cells: weight [C, 4 * D], bias [D]."""
    assert isinstance(convolution, ConvTranspose2d)
    assert convolution.bias is not None
    return convolution.weight.permute(0, 2, 3, 1).flatten(1), convolution.bias
