"""Drawing wanted masks from the images of prompts, compiled for a CPU: `upscaling` and the product with filters.

Some cells of a row go through both convolutions together, one place of the finer grid after the other, so that what
lies between two products stays in the first cache; and only cells that hold any of the crop are looked at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.machine_code import reordered
from sam_core.model.tile_products import Floats, add_product, as_array, columns_of, fill
from sam_core.model.upscaling import Upscaling
from sam_core.model.vector_math import gelu_in_place, norm_in_place, wide_vectors

CELLS_AT_ONCE = 24
"""12 kB of 128 channels; a multiple of the 6 rows of a tile."""


def draw_seen(
    image: Tensor,
    filters: Tensor,
    prompts: Tensor,
    upscaling: Upscaling,
    fine: tuple[Tensor, ...],
    seen: tuple[int, int],
    out: Tensor,
) -> None:
    """Logits of wanted masks where cells hold any of the crop, float32.

    Args:
        image: [N, h * w, C].
        filters: [K, C/8], of the K masks that are wanted.
        prompts: int64 [K], which image each is drawn from, ascending.
        upscaling: the weights.
        fine: fine features by cell, [h, w, 2, 2, C/4] and [h, w, 2, 2, 2, 2, C/8], or ().
        seen: rows and columns of cells, from the top left.
        out: [K, 4h, 4w], contiguous; left as it is where nothing is seen.
    """
    _draw_seen(image.numpy(), filters.numpy(), prompts.numpy(), steps_of(upscaling, fine), seen, out.numpy())


class Steps(NamedTuple):
    """From a cell to its 4 x 4 pixels; D channels between the convolutions, E after both.

    to_8: [4, C, D], for each place. at_8: [h * w or 1, 4, D], to add. weight, bias: of the layer norm, [D]; eps.
    to_4: [D, 4 * E]. at_4: [h * w or 1, 4, 4 * E], to add.
    """

    to_8: Floats
    at_8: Floats
    weight: Floats
    bias: Floats
    eps: np.float32
    to_4: Floats
    at_4: Floats


def steps_of(weights: Upscaling, fine: tuple[Tensor, ...]) -> Steps:
    middle, depth = len(weights.bias_8), len(weights.bias_4)
    fine_8, fine_4 = fine or (torch.zeros(1, 1, 2, 2, 1), torch.zeros(1, 1, 2, 2, 2, 2, 1))
    return Steps(
        to_8=as_array(weights.to_8.unflatten(1, (4, middle)).transpose(0, 1)),
        at_8=as_array((fine_8 + weights.bias_8).view(-1, 4, middle)),
        weight=as_array(weights.norm.weight),
        bias=as_array(weights.norm.bias),
        eps=np.float32(weights.norm.eps),
        to_4=as_array(weights.to_4),
        at_4=as_array((fine_4 + weights.bias_4).view(-1, 4, 4 * depth)),
    )


@reordered
def _draw_seen(
    image: Floats, filters: Floats, prompts: NDArray[np.int64], steps: Steps, seen: tuple[int, int], out: Floats
) -> None:
    """image [N, h * w, C], filters [K, E], prompts [K] of their masks, ascending, out [K, 4h, 4w]."""
    wide_vectors()
    width = out.shape[2] // 4
    first = 0
    while first < len(prompts):
        end = first + 1
        while end < len(prompts) and prompts[end] == prompts[first]:
            end += 1
        columns = columns_of(filters[first:end])
        for row in range(seen[0]):
            for left in range(0, seen[1], CELLS_AT_ONCE):
                right = min(left + CELLS_AT_ONCE, seen[1])
                cells = image[prompts[first], row * width + left : row * width + right]
                _draw_cells(
                    cells, row * width + left, steps, columns, out[first:end, 4 * row : 4 * row + 4, 4 * left :]
                )
        first = end


@reordered
def _draw_cells(cells: Floats, at: int, steps: Steps, columns: Floats, out: Floats) -> None:
    """Cells [n, C] that begin at one of a grid; columns [E, >= K] are the filters, out [K, 4, >= 4n]."""
    at_8 = np.empty((len(cells), steps.to_8.shape[2]), np.float32)
    at_4 = np.empty((len(cells), steps.to_4.shape[1]), np.float32)
    logits = np.empty((4 * len(cells), columns.shape[1]), np.float32)
    for place in range(4):
        begin_with(at_8, steps.at_8, at, place)
        add_product(cells, steps.to_8[place], at_8)
        for i in range(len(at_8)):
            norm_in_place(at_8[i], steps.weight, steps.bias, steps.eps)
        gelu_in_place(at_8)
        begin_with(at_4, steps.at_4, at, place)
        add_product(at_8, steps.to_4, at_4)
        gelu_in_place(at_4)
        fill(logits, np.float32(0))
        add_product(at_4.reshape(len(logits), -1), columns, logits)
        put(logits, place, out)


@reordered
def put(logits: Floats, place: int, out: Floats) -> None:
    """Logits [4 * n, >= K] of the four pixels of one place of n cells, where they belong in out [K, 4, >= 4 * n]."""
    top, left = 2 * (place >> 1), 2 * (place & 1)
    for k in range(len(out)):
        for i in range(len(logits) // 4):
            for pixel in range(4):
                out[k, top + (pixel >> 1), 4 * i + left + (pixel & 1)] = logits[4 * i + pixel, k]


@reordered
def begin_with(x: Floats, added: Floats, at: int, place: int) -> None:
    """Overwrites x [n, D] with what is added to cells that begin at one of a grid: [h * w, 4, D], or [1, 4, D]."""
    for i in range(len(x)):
        own = added[at + i if len(added) > 1 else 0, place]
        for c in range(x.shape[1]):
            x[i, c] = own[c]
