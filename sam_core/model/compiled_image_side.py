"""Writing into the images of prompts and reading them, compiled for a CPU: most of the work of a mask decoder.

One prompt comes after the other, and of its image some positions at a time: they are scored, written into, normalised,
scored for who reads next and added to what that finds, all in the cache (softmax as it goes: Milakov and Gimelshein
2018, Dao et al. 2022). Nothing calls Python in between, so that threads do not wait for each other.
Shapes: N prompts, T tokens, H heads, L positions, C channels, d per head; J = H * (T - 1) rows of tokens, written
beside the first one of each head (`absorbed_attention.Beside`), and P probes that read. All float32.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from sam_core.machine_code import cached
from sam_core.model.absorbed_attention import Beside
from sam_core.model.tile_products import Floats, add_product, as_array, columns_of, fill, transpose
from sam_core.model.vector_math import exp, norm_in_place, wide_vectors

POSITIONS_AT_ONCE = 48
"""A multiple of the 6 rows and the 16 columns of a tile; with 128 channels they are 24 kB."""
LOWEST = np.float32(-3e38)
"""A score that nothing is lower than, and from which a score can still be subtracted."""
_APART = 16
"""Floats between the rows of a table: rows 2^n bytes apart would share a few places of the first cache."""

compiled = cached(fastmath={"reassoc", "nsz", "nnan", "contract", "arcp"}, error_model="numpy")


def write_shared_and_read(
    image: Tensor, queries: Tensor, keys: Tensor, told: Beside, norm: nn.LayerNorm, positions: Tensor, probes: Tensor
) -> tuple[Tensor, Tensor]:
    """What prompts make of an image that is the same for all, and what probes find in it then: [N, L, C], [N, P, C].

    Args:
        image, positions: [1, L, C].
        queries: of the image, [H, L, d].
        keys: of all tokens but the first, less those of the first, scaled, [N, H, T - 1, d].
        told: messages of the tokens.
        norm: layer norm over C.
        probes: [N, P, C], compared with the image as written plus positions.
    """
    out, pooled = image.new_empty(len(keys), *image.shape[1:]), probes.new_empty(probes.shape)
    reading = Reading(as_array(positions[0]), as_array(probes), pooled.numpy())
    scratch = _scratch(told, probes)
    _write_shared(
        as_array(image[0]),
        as_columns(queries, POSITIONS_AT_ONCE),
        as_array(keys),
        _writing(told, norm),
        reading,
        scratch,
        out.numpy(),
    )
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
    """What prompts make of images of their own, [N, L, C], in place, and what probes find there then.

    Args:
        image: [N, L, C], contiguous; overwritten.
        scoring: what the image plus positions is compared with, [N, J, C], and what is added to that, [N, J, 1].
        heads: H.
        told, norm, positions, probes: as above.
    """
    pooled = probes.new_empty(probes.shape)
    compared, offsets = (as_array(each) for each in scoring)
    reading = Reading(as_array(positions[0]), as_array(probes), pooled.numpy())
    _write_own(image.numpy(), compared, offsets, heads, _writing(told, norm), reading, _scratch(told, probes))
    return image, pooled


class Writing(NamedTuple):
    """messages [N, J, > C], everywhere [N, 1, C], and the layer norm that follows: weight and bias [C], eps.

    In tiles everywhere is one of messages, [N, even, C].
    """

    messages: Floats
    everywhere: Floats
    weight: Floats
    bias: Floats
    eps: np.float32


class Reading(NamedTuple):
    """positions [L, C], probes [N, P, C], and pooled [N, P, C], where the answers go."""

    positions: Floats
    probes: Floats
    pooled: Floats


def writing_of(messages: Tensor, everywhere: Tensor, norm: nn.LayerNorm) -> Writing:
    weight, bias = as_array(norm.weight), as_array(norm.bias)
    return Writing(as_array(messages), as_array(everywhere), weight, bias, np.float32(norm.eps))


def _writing(told: Beside, norm: nn.LayerNorm) -> Writing:
    return writing_of(F.pad(told.others, (0, _APART)), told.first, norm)


def as_columns(rows: Tensor, at_once: int) -> Floats:
    """Rows [H, L, d] as columns [H, d, L], zeros behind them up to a multiple of what is done at once."""
    return as_array(F.pad(rows, (0, 0, 0, -rows.shape[1] % at_once)).transpose(1, 2))


class _Scratch(NamedTuple):
    """Memory for n = POSITIONS_AT_ONCE positions of one prompt, and what it found before these; P' is P by eights.

    scores: [J, n]. written: [n, > C]. placed: [n, C]. found: [n, P']. peaks, totals: [P'], the highest score so far,
    and the sum of exponentials relative to it.
    """

    scores: Floats
    written: Floats
    placed: Floats
    found: Floats
    peaks: Floats
    totals: Floats


def _scratch(told: Beside, probes: Tensor) -> _Scratch:
    rows, (_, found, channels), n = told.others.shape[1], probes.shape, POSITIONS_AT_ONCE
    eights = -(-found // 8) * 8
    sizes = ((rows, n), (n, channels + _APART), (n, channels), (n, eights), (eights,), (eights,))
    return _Scratch(*(probes.new_zeros(size).numpy() for size in sizes))  # torch's memory begins with a cache line


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
    heads, rows = keys.shape[1], keys.shape[2]
    for n in range(len(out)):
        begin(scratch.peaks, scratch.totals, reading.pooled[n])
        columns = columns_of(reading.probes[n])
        for top in range(0, len(image), POSITIONS_AT_ONCE):
            fill(scratch.scores, np.float32(0))
            for h in range(heads):
                here = queries[h, :, top : top + POSITIONS_AT_ONCE]
                add_product(keys[n, h], here, scratch.scores[h * rows : (h + 1) * rows])
            _write_and_read(n, top, heads, image, writing, reading, columns, scratch, out[n])
        _finish(scratch, reading.pooled[n])


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
    length, channels = image.shape[1:]
    for n in range(len(image)):
        begin(scratch.peaks, scratch.totals, reading.pooled[n])
        columns, own = columns_of(reading.probes[n]), columns_of(compared[n])
        for top in range(0, length, POSITIONS_AT_ONCE):
            for i in range(min(POSITIONS_AT_ONCE, length - top)):
                for c in range(channels):
                    scratch.placed[i, c] = image[n, top + i, c] + reading.positions[top + i, c]
            _compare(scratch.placed, own, scratch.scores)
            for j in range(len(scratch.scores)):
                for i in range(POSITIONS_AT_ONCE):
                    scratch.scores[j, i] += offsets[n, j, 0]
            _write_and_read(n, top, heads, image[n], writing, reading, columns, scratch, image[n])
        _finish(scratch, reading.pooled[n])


@compiled
def begin(peaks: Floats, totals: Floats, pooled: Floats) -> None:
    """For a prompt that has found nothing yet: peaks and totals [P'], pooled [P, C]."""
    fill(pooled, np.float32(0))
    for p in range(len(peaks)):
        peaks[p] = LOWEST
        totals[p] = np.float32(0)


@compiled
def _finish(scratch: _Scratch, pooled: Floats) -> None:
    """Makes the sums pooled [P, C] means."""
    for p in range(pooled.shape[0]):
        for c in range(pooled.shape[1]):
            pooled[p, c] /= scratch.totals[p]


@compiled
def _write_and_read(
    n: int,
    top: int,
    heads: int,
    before: Floats,
    writing: Writing,
    reading: Reading,
    columns: Floats,
    scratch: _Scratch,
    out: Floats,
) -> None:
    """Positions of prompt n from top on, whose scores are known; before and out [L, C], which may be the same.

    columns: [C, >= P], the probes.
    """
    channels, here = out.shape[1], min(POSITIONS_AT_ONCE, len(out) - top)
    written, placed = scratch.written, scratch.placed
    for i in range(here):
        for c in range(channels):
            written[i, c] = before[top + i, c] + writing.everywhere[n, 0, c]
    softmax_beside_zero(scratch.scores, heads)
    add_product(scratch.scores.T, writing.messages[n], written[:, :channels])
    for i in range(here):
        norm_in_place(written[i], writing.weight, writing.bias, writing.eps)
        for c in range(channels):
            out[top + i, c] = written[i, c]
            placed[i, c] = written[i, c] + reading.positions[top + i, c]
    fill(scratch.found, np.float32(0))
    add_product(placed, columns, scratch.found)
    weigh(scratch.found, here, scratch.peaks, scratch.totals, reading.pooled[n])
    add_product(scratch.found.T[: len(reading.pooled[n])], written, reading.pooled[n])


@compiled
def _compare(placed: Floats, columns: Floats, scores: Floats) -> None:
    """Products of positions [n, C] with columns [C, >= P], as rows [P, n]."""
    products = np.zeros((len(placed), columns.shape[1]), np.float32)
    add_product(placed, columns, products)
    transpose(products[:, : len(scores)], scores)


@compiled
def softmax_beside_zero(scores: Floats, heads: int) -> None:
    """Overwrites scores [H * (T - 1), n] with the weights of the T - 1 tokens of each head; one more scores 0."""
    peak, total = np.empty(scores.shape[1], np.float32), np.empty(scores.shape[1], np.float32)
    each = len(scores) // heads
    for h in range(heads):
        rows = scores[h * each : (h + 1) * each]
        for i in range(len(peak)):
            peak[i] = np.float32(0)
        for t in range(each):
            line = rows[t]
            for i in range(len(line)):
                peak[i] = max(peak[i], line[i])
        for i in range(len(total)):
            total[i] = exp(-peak[i])
        for t in range(each):
            line = rows[t]
            for i in range(len(line)):
                line[i] = exp(line[i] - peak[i])
                total[i] += line[i]
        for i in range(len(total)):
            total[i] = np.float32(1) / total[i]
        for t in range(each):
            line = rows[t]
            for i in range(len(line)):
                line[i] *= total[i]


@compiled
def weigh(found: Floats, here: int, peaks: Floats, totals: Floats, pooled: Floats) -> None:
    """Overwrites scores found [n, P'] of `here` positions with their exponentials relative to the highest so far, and
    those of the others with 0.

    peaks: [P'], the highest before and after. totals [P'] and the sums pooled [P, C], relative to it, follow.
    """
    smaller = peaks.copy()
    for i in range(here):  # probe beside probe: LLVM makes no vectors of one running maximum
        for p in range(len(peaks)):
            peaks[p] = max(peaks[p], found[i, p])
    for p in range(len(peaks)):
        smaller[p] = exp(smaller[p] - peaks[p])
        totals[p] *= smaller[p]
    for p in range(len(pooled)):
        if smaller[p] < np.float32(1):
            for c in range(pooled.shape[1]):
                pooled[p, c] *= smaller[p]
    for i in range(here):
        for p in range(len(peaks)):
            found[i, p] = exp(found[i, p] - peaks[p])
            totals[p] += found[i, p]
    fill(found[here:], np.float32(0))
