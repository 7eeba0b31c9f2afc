"""`compiled_drawing` for processors with AMX: its products are taken apart (`split_products`), to 3e-6 on the mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sam_core.llvm_tiles import begin_tiles, end_tiles
from sam_core.machine_code import reordered
from sam_core.model.compiled_drawing import Steps, begin_with, put, steps_of
from sam_core.model.split_products import (
    STEP,
    Split,
    add_split,
    can_split,
    room_for_columns,
    room_for_rows,
    split_left,
    split_right,
)
from sam_core.model.tile_products import Floats, add_product, columns_of, fill
from sam_core.model.upscaling import Upscaling
from sam_core.model.vector_math import gelu_in_place, norm_in_place, wide_vectors

CELLS_AT_ONCE = 64


def can_draw(channels: int) -> bool:
    """Whether an image of so many channels can be drawn from: a quarter of them are whole tiles."""
    return can_split(channels // 4, channels)


def draw_seen(
    image: Tensor,
    filters: Tensor,
    prompts: Tensor,
    upscaling: Upscaling,
    fine: tuple[Tensor, ...],
    seen: tuple[int, int],
    out: Tensor,
) -> None:
    """As `compiled_drawing.draw_seen`, of an image that it `can_draw`."""
    steps = steps_of(upscaling, fine)
    weights = _weights(steps)
    _draw_seen(image.numpy(), filters.numpy(), prompts.numpy(), steps, weights, seen, out.numpy())


class _Weights(NamedTuple):
    """Of `Steps`, as right sides of products; and memory for some cells as left sides, before and after the first."""

    to_8: tuple[Split, Split, Split, Split]
    to_4: Split
    cells: Split
    at_8: Split


def _weights(steps: Steps) -> _Weights:
    _, channels, middle = steps.to_8.shape
    first, second, third, fourth = (_right(each) for each in steps.to_8)
    return _Weights(
        to_8=(first, second, third, fourth),
        to_4=_right(steps.to_4),
        cells=room_for_rows(CELLS_AT_ONCE, channels),
        at_8=room_for_rows(CELLS_AT_ONCE, middle),
    )


def _right(x: Floats) -> Split:
    pieces = room_for_columns(x.shape[1], x.shape[0])
    split_right(x, pieces)
    return pieces


@reordered
def _draw_seen(
    image: Floats,
    filters: Floats,
    prompts: NDArray[np.int64],
    steps: Steps,
    weights: _Weights,
    seen: tuple[int, int],
    out: Floats,
) -> None:
    """image [N, h * w, C], filters [K, E], prompts [K] of their masks, ascending, out [K, 4h, 4w]."""
    wide_vectors()
    begin_tiles()
    width = out.shape[2] // 4
    first = 0
    while first < len(prompts):
        end = first + 1
        while end < len(prompts) and prompts[end] == prompts[first]:
            end += 1
        columns = columns_of(filters[first:end])
        for row in range(seen[0]):
            for left in range(0, seen[1], CELLS_AT_ONCE):
                at, count = row * width + left, min(CELLS_AT_ONCE, seen[1] - left)
                split_left(image[prompts[first], at : at + count], weights.cells)
                _draw_cells(at, count, steps, weights, columns, out[first:end, 4 * row : 4 * row + 4, 4 * left :])
        first = end
    end_tiles()


@reordered
def _draw_cells(at: int, count: int, steps: Steps, weights: _Weights, columns: Floats, out: Floats) -> None:
    """Cells that begin at one of a grid; columns [E, >= K] are the filters, out [K, 4, >= 4 * count]."""
    whole = (count + STEP - 1) // STEP * STEP
    at_8 = np.zeros((whole, steps.to_8.shape[2]), np.float32)
    at_4 = np.zeros((whole, steps.to_4.shape[1]), np.float32)
    logits = np.empty((4 * count, columns.shape[1]), np.float32)
    for place in range(4):
        begin_with(at_8[:count], steps.at_8, at, place)
        add_split(weights.cells, weights.to_8[place], at_8, at_8)
        for i in range(count):
            norm_in_place(at_8[i], steps.weight, steps.bias, steps.eps)
        gelu_in_place(at_8[:count])
        split_left(at_8, weights.at_8)
        begin_with(at_4[:count], steps.at_4, at, place)
        add_split(weights.at_8, weights.to_4, at_4, at_4)
        gelu_in_place(at_4[:count])
        fill(logits, np.float32(0))
        add_product(at_4[:count].reshape(len(logits), -1), columns, logits)
        put(logits, place, out)
