"""`compiled_image_side` for processors with AMX: its products are taken apart (`split_products`), to 3e-6 on the mean.

Shapes as there; numbers of rows and columns of tiles are whole steps, with zeros beyond what there is. What the first
tokens write everywhere is one more message, of which every position has all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_core.llvm_tiles import begin_tiles, end_tiles
from sam_core.model.absorbed_attention import Beside
from sam_core.model.compiled_image_side import (
    Reading,
    Writing,
    as_columns,
    begin,
    compiled,
    softmax_beside_zero,
    weigh,
    writing_of,
)
from sam_core.model.split_products import (
    Split,
    add_split,
    can_split,
    put_split,
    room_for_columns,
    room_for_rows,
    split_left,
    split_right,
    split_sum,
    split_transposed,
    whole_steps,
)
from sam_core.model.tile_products import Floats, add_product, as_array, fill, transpose
from sam_core.model.vector_math import norm_in_place, wide_vectors

POSITIONS_AT_ONCE = 64
"""Two steps, so that what was read is added up by two tiles at a time."""


def can_split_image(length: int, channels: int) -> bool:
    """Whether images [L, C] have whole tiles."""
    return length % POSITIONS_AT_ONCE == 0 and can_split(POSITIONS_AT_ONCE, channels)


def write_shared_and_read(
    image: Tensor, queries: Tensor, keys: Tensor, told: Beside, norm: nn.LayerNorm, positions: Tensor, probes: Tensor
) -> tuple[Tensor, Tensor]:
    """As `compiled_image_side.write_shared_and_read`, of an image that it `can_split_image`."""
    out, pooled = image.new_empty(len(keys), *image.shape[1:]), probes.new_empty(probes.shape)
    reading = Reading(as_array(positions[0]), as_array(probes), pooled.numpy())
    columns = as_columns(queries, POSITIONS_AT_ONCE)
    scratch = _scratch(told, probes)
    _write_shared(as_array(image[0]), columns, as_array(keys), _writing(told, norm), reading, scratch, out.numpy())
    return out, pooled


def write_own_and_read(
    image: Tensor,
    scoring: tuple[Tensor, Tensor],
    heads: int,
    told: Beside,
    norm: nn.LayerNorm,
    positions: Tensor,
    probes: Tensor,
) -> tuple[Tensor, Tensor]:
    """As `compiled_image_side.write_own_and_read`, of images that it `can_split_image`."""
    pooled = probes.new_empty(probes.shape)
    compared, offsets = (as_array(each) for each in scoring)
    reading = Reading(as_array(positions[0]), as_array(probes), pooled.numpy())
    _write_own(image.numpy(), compared, offsets, heads, _writing(told, norm), reading, _scratch(told, probes))
    return image, pooled


class _Scratch(NamedTuple):
    """Memory for n = POSITIONS_AT_ONCE positions of one prompt, and what it found before these. J' is J + 1, whose last
    is the message to everywhere, and P' is P, both in whole steps and 0 beyond.

    scores: [J', n]. scored: [n, J'], the same by positions. offsets: [J'], and nothing: [P'], to add to products.
    found: [n, P']. seen: [P', n]. peaks, totals: [P'], the highest score so far, and the sum of exponentials relative
    to it. pooled: [P', C]. As pieces of products: compared [C, J'], messages [J', C] and probes [C, P'] of a prompt;
    weights [n, J'], places [n, C], shares [P', n] and values [n, C] of positions.
    """

    scores: Floats
    scored: Floats
    offsets: Floats
    nothing: Floats
    found: Floats
    seen: Floats
    peaks: Floats
    totals: Floats
    pooled: Floats
    compared: Split
    messages: Split
    probes: Split
    weights: Split
    places: Split
    shares: Split
    values: Split


def _scratch(told: Beside, probes: Tensor) -> _Scratch:
    (_, found, channels), n = probes.shape, POSITIONS_AT_ONCE
    rows, read = whole_steps(told.others.shape[1] + 1), whole_steps(found)
    messages = room_for_columns(channels, rows)
    messages.high[:], messages.low[:] = 0, 0  # also what no prompt writes to
    return _Scratch(
        scores=_zeros(rows, n),
        scored=_zeros(n, rows),
        offsets=_zeros(rows),
        nothing=_zeros(read),
        found=_zeros(n, read),
        seen=_zeros(read, n),
        peaks=_zeros(read),
        totals=_zeros(read),
        pooled=_zeros(read, channels),
        compared=room_for_columns(rows, channels),
        messages=messages,
        probes=room_for_columns(read, channels),
        weights=room_for_rows(n, rows),
        places=room_for_rows(n, channels),
        shares=room_for_rows(read, n),
        values=room_for_columns(channels, n),
    )


def _zeros(*size: int) -> Floats:
    array: Floats = torch.zeros(size).numpy()
    return array


def _writing(told: Beside, norm: nn.LayerNorm) -> Writing:
    """With the message to everywhere behind the others, and nothing behind that where an odd number would be."""
    messages = torch.cat([told.others, told.first], dim=1)
    return writing_of(F.pad(messages, (0, 0, 0, messages.shape[1] % 2)), told.first, norm)


@compiled
def _write_shared(
    image: Floats,
    queries: Floats,
    keys: Floats,
    writing: Writing,
    reading: Reading,
    scratch: _Scratch,
    out: Floats,
) -> None:
    """image [L, C], queries [H, d, >= L], keys [N, H, T - 1, d], out [N, L, C]."""
    wide_vectors()
    begin_tiles()
    heads, rows = keys.shape[1], keys.shape[2]
    for n in range(len(out)):
        _begin(n, writing, reading, scratch)
        for top in range(0, len(image), POSITIONS_AT_ONCE):
            fill(scratch.scores[: heads * rows], np.float32(0))
            for h in range(heads):
                here = queries[h, :, top : top + POSITIONS_AT_ONCE]
                add_product(keys[n, h], here, scratch.scores[h * rows : (h + 1) * rows])
            _write_and_read(top, heads, heads * rows, image, writing, reading, scratch, out[n])
        _finish(scratch, reading.pooled[n])
    end_tiles()


@compiled
def _write_own(
    image: Floats,
    compared: Floats,
    offsets: Floats,
    heads: int,
    writing: Writing,
    reading: Reading,
    scratch: _Scratch,
) -> None:
    """image [N, L, C], compared [N, J, C], offsets [N, J, 1]."""
    wide_vectors()
    begin_tiles()
    rows = compared.shape[1]
    for n in range(len(image)):
        _begin(n, writing, reading, scratch)
        split_transposed(compared[n], scratch.compared)
        for j in range(rows):
            scratch.offsets[j] = offsets[n, j, 0]
        for top in range(0, image.shape[1], POSITIONS_AT_ONCE):
            here = slice(top, top + POSITIONS_AT_ONCE)
            split_sum(image[n, here], reading.positions[here], scratch.places)
            put_split(scratch.places, scratch.compared, scratch.offsets, scratch.scored)
            transpose(scratch.scored, scratch.scores)
            _write_and_read(top, heads, rows, image[n], writing, reading, scratch, image[n])
        _finish(scratch, reading.pooled[n])
    end_tiles()


@compiled
def _begin(n: int, writing: Writing, reading: Reading, scratch: _Scratch) -> None:
    """For prompt n, which has found nothing yet."""
    begin(scratch.peaks, scratch.totals, scratch.pooled)
    split_right(writing.messages[n], scratch.messages)
    split_transposed(reading.probes[n], scratch.probes)


@compiled
def _finish(scratch: _Scratch, pooled: Floats) -> None:
    """Means of what was found, [P, C]."""
    for p in range(pooled.shape[0]):
        for c in range(pooled.shape[1]):
            pooled[p, c] = scratch.pooled[p, c] / scratch.totals[p]


@compiled
def _write_and_read(
    top: int, heads: int, rows: int, before: Floats, writing: Writing, reading: Reading, scratch: _Scratch, out: Floats
) -> None:
    """Positions from top on, whose scores [J = rows, n] are known; before and out [L, C], which may be the same."""
    here = slice(top, top + POSITIONS_AT_ONCE)
    softmax_beside_zero(scratch.scores[:rows], heads)
    fill(scratch.scores[rows : rows + 1], np.float32(1))
    transpose(scratch.scores, scratch.scored)
    split_left(scratch.scored, scratch.weights)
    add_split(scratch.weights, scratch.messages, before[here], out[here])
    for i in range(top, top + POSITIONS_AT_ONCE):
        norm_in_place(out[i], writing.weight, writing.bias, writing.eps)
    split_sum(out[here], reading.positions[here], scratch.places)
    put_split(scratch.places, scratch.probes, scratch.nothing, scratch.found)
    weigh(scratch.found, POSITIONS_AT_ONCE, scratch.peaks, scratch.totals, scratch.pooled)
    transpose(scratch.found, scratch.seen)
    split_left(scratch.seen, scratch.shares)
    split_right(out[here], scratch.values)
    add_split(scratch.shares, scratch.values, scratch.pooled, scratch.pooled)
