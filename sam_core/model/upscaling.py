"""The mask decoder's upscaling and its product with the filters of wanted masks, for use after `absorbed_decoder`.

A transposed convolution whose stride equals its kernel is a linear map of each cell of the embedding, so cells can be
drawn in any order and number: on a CPU a few rows at a time, which stay in the cache, with compiled passes between the
two products, and only where the crop lies: the padding of the model input is never looked at.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import ConvTranspose2d

from sam_core.model.layers import LayerNorm2d
from sam_core.model.vector_math import gelu, wide_vectors

UNSEEN = -1e4
"""What stands for logits in the padding."""

Floats = NDArray[np.float32]


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


def draw_part(
    image: Tensor, filters: Tensor, weights: Upscaling, fine: tuple[Tensor, ...], columns: int, out: Tensor
) -> None:
    """Logits of the wanted masks of one prompt in some rows of cells, on a CPU in float32.

    Args:
        image: [n, C], the cells, row by row.
        filters: [K, C/8], of the wanted masks.
        weights: of the upscaling.
        fine: what `places_first` makes of these cells' fine features, or ().
        columns: cells in a row.
        out: [K, 4 * n / columns, >= 4 * columns], filled in.
    """
    cells = len(image)
    at_8, at_4 = (x.numpy() for x in fine or (image.new_zeros(0, 0, 0), image.new_zeros(0, 0, 0)))
    norm = [x.numpy() for x in (weights.norm.weight, weights.norm.bias)]
    x = torch.mm(weights.to_8.T, image.T).view(4, -1, cells)
    _norm_gelu(x.numpy(), weights.bias_8.numpy(), at_8, *norm, np.float32(weights.norm.eps))
    x = torch.bmm(weights.to_4.T.expand(4, -1, -1), x).view(16, -1, cells)
    _gelu_filter(x.numpy(), weights.bias_4.numpy(), at_4, filters.numpy(), columns, out.numpy())


def places_first(fine: Tensor) -> Tensor:
    """Fine features by cell [r, c, 2, 2, (2, 2,) D] -> [4 or 16, D, r * c], the same place of all cells together."""
    return fine.flatten(2, -2).permute(2, 3, 0, 1).flatten(2).contiguous()


def _linear(convolution: nn.Module) -> tuple[Tensor, Tensor]:
    """A 2x2 transposed convolution with stride 2 as a map of cells: weight [C, 4 * D], bias [D]."""
    assert isinstance(convolution, ConvTranspose2d)
    assert convolution.bias is not None
    return convolution.weight.permute(0, 2, 3, 1).flatten(1), convolution.bias


_compiled = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract", "arcp"}, error_model="numpy")


@_compiled  # type: ignore[untyped-decorator]
def _norm_gelu(x: Floats, bias: Floats, fine: Floats, weight: Floats, shift: Floats, eps: np.float32) -> None:
    """Overwrites x [4, D, n] with gelu(norm(x + bias + fine)), norm over D; fine [4, D, n], or empty for none."""
    wide_vectors()
    places, channels, cells = x.shape
    width = np.float32(channels)
    mean, scale = np.empty(cells, np.float32), np.empty(cells, np.float32)
    for place in range(places):
        mean[:] = np.float32(0)
        for c in range(channels):
            line = x[place, c]
            if len(fine):
                line += fine[place, c]
            for i in range(cells):
                line[i] += bias[c]
                mean[i] += line[i]
        scale[:] = np.float32(0)
        for i in range(cells):
            mean[i] /= width
        for c in range(channels):
            line = x[place, c]
            for i in range(cells):
                line[i] -= mean[i]
                scale[i] += line[i] * line[i]
        for i in range(cells):
            scale[i] = np.float32(1) / np.sqrt(scale[i] / width + eps)
        for c in range(channels):
            line = x[place, c]
            for i in range(cells):
                line[i] = gelu(line[i] * scale[i] * weight[c] + shift[c])


@_compiled  # type: ignore[untyped-decorator]
def _gelu_filter(x: Floats, bias: Floats, fine: Floats, filters: Floats, columns: int, out: Floats) -> None:
    """Products of gelu(x + bias + fine) with filters [K, D], into out [K, 4h, >= 4w] where each pixel lies.

    x, which is used up, and fine are [16, D, h * w], place by place of the 4x4 pixels of a cell; fine may be empty.
    """
    wide_vectors()
    places, channels, cells = x.shape
    sums = np.empty((len(filters), cells), np.float32)
    for place in range(places):
        sums[:] = np.float32(0)
        for c in range(channels):
            line = x[place, c]
            if len(fine):
                line += fine[place, c]
            for i in range(cells):
                line[i] = gelu(line[i] + bias[c])
            for k in range(len(filters)):
                factor, total = filters[k, c], sums[k]
                for i in range(cells):
                    total[i] += factor * line[i]
        top, left = 2 * (place >> 3) + ((place >> 1) & 1), 2 * ((place >> 2) & 1) + (place & 1)
        for k in range(len(filters)):
            for row in range(cells // columns):
                for column in range(columns):
                    out[k, 4 * row + top, 4 * column + left] = sums[k, row * columns + column]
