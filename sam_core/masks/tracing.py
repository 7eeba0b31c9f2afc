"""Masks of several crops measured and run-length encoded on a device, in two looks at their low-resolution logits.

The first look counts (`Tracer.notes`); what the rules of the recipe keep is looked at again for the positions at
which a mask begins or ends (`Tracer.changes`). Only those positions and a few numbers per mask cross to the host.
Results are those of `plain.measure`. Here is the form in plain torch, for any device; `triton_tracing` has the kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import Frame, masks_at_once, upscale_logits
from sam_core.machine_code import entry
from sam_core.masks.boxes import tight_boxes
from sam_core.masks.candidates import Measures
from sam_core.masks.plain import MASKS_AT_ONCE
from sam_core.masks.rle import Runs

INNER, OUTER, AREA, X0, Y0, X1, Y1, CHANGED = range(8)
"""What is noted of a mask: pixels above +offset, -offset and 0; first and last column and row inside, in the crop; how
many changes it has."""


class Notes(NamedTuple):
    """of_mask: int64 [K, 8], see above. of_column: int32 [K, W], changes by column of the crop, or [K, 0]."""

    of_mask: Tensor
    of_column: Tensor


class Tracer(Protocol):
    """Looks at masks of crops that lie in known frames."""

    def notes(self, logits: Tensor, crops: Tensor) -> Notes:
        """Of masks above 0: float32 logits [K, h, w], of which mask k lies in frame crops[k], int64 [K], ascending."""

    def changes(self, logits: Tensor, crops: Tensor, notes: Notes, total: int) -> Tensor:
        """Where the same masks begin and end, given their notes: int32, one mask after the other, positions in the
        original image counted by columns; total: of their CHANGED, which the host knows without asking the device."""


class TorchTracer:
    """Brings a few masks at a time to full size."""

    def __init__(self, frames: Sequence[Frame], *, offset: float) -> None:
        self._frames = tuple(frames)
        self._offset = offset

    def notes(self, logits: Tensor, crops: Tensor) -> Notes:
        """See `Tracer`."""
        found = [self._notes(full, frame) for full, frame in self._at_crop_size(logits, crops)]
        of_mask = torch.cat([torch.empty(0, 8, dtype=torch.int64, device=logits.device), *found])
        return Notes(of_mask, torch.empty(len(logits), 0, dtype=torch.int32, device=logits.device))

    def changes(self, logits: Tensor, crops: Tensor, notes: Notes, total: int) -> Tensor:
        """See `Tracer`."""
        changed = (_changed(full > 0, frame) for full, frame in self._at_crop_size(logits, crops))
        found = [each.nonzero()[:, 1].to(torch.int32) for each in changed]
        return torch.cat([torch.empty(0, dtype=torch.int32, device=logits.device), *found])

    def _at_crop_size(self, logits: Tensor, crops: Tensor) -> Iterator[tuple[Tensor, Frame]]:
        """Logits [k, crop height, crop width] of a few masks in one frame, and the frame."""
        for crop, count in zip(*(x.tolist() for x in torch.unique_consecutive(crops, return_counts=True)), strict=True):
            few, logits = logits[:count], logits[count:]
            frame = self._frames[crop]
            for part in few.split(masks_at_once(frame.crop_size, MASKS_AT_ONCE)):
                yield upscale_logits(part[:, None], frame)[:, 0], frame

    def _notes(self, full: Tensor, frame: Frame) -> Tensor:
        counts = [torch.count_nonzero(full > level, dim=(1, 2)) for level in (self._offset, -self._offset, 0.0)]
        inside = full > 0
        changed = _changed(inside, frame).sum(dim=1)
        return torch.cat([torch.stack(counts, dim=1), tight_boxes(inside), changed[:, None]], dim=1)


def _changed(masks: Tensor, frame: Frame) -> Tensor:
    """Where bool masks [k, crop height, crop width] begin or end in the original image, by columns: [k, pixels]."""
    height, width = frame.original_size
    x0, y0, x1, y1 = frame.crop_box
    columns = masks.new_zeros(len(masks), width, height)
    columns[:, x0:x1, y0:y1] = masks.transpose(1, 2)
    pixels = columns.flatten(1)
    before = torch.cat([pixels.new_zeros(len(pixels), 1), pixels[:, :-1]], dim=1)
    return pixels != before


def measures(notes: NDArray[np.int64], frame: Frame) -> Measures:
    """What the rules ask of masks in one frame, from their notes [K, 8] on the host; without run lengths."""
    x0, y0 = frame.crop_box[:2]
    return Measures(
        stability_score=np.divide(notes[:, INNER], np.maximum(notes[:, OUTER], 1), dtype=np.float32),
        areas=notes[:, AREA].copy(),
        boxes=notes[:, X0 : Y1 + 1] + np.array([x0, y0, x0, y0]),
        runs=np.full(len(notes), None),
    )


def run_lengths(changes: NDArray[np.int32], counts: NDArray[np.int64], pixels: NDArray[np.int64]) -> list[Runs]:
    """int64 run lengths of N masks, on the host.

    changes: int32, one mask after the other. counts: int64 [N], how many each has. pixels: int64 [N], of its image.
    """
    lengths = _run_lengths(changes, counts, pixels)
    first = np.concatenate([[0], np.cumsum(counts + 1)])
    return [lengths[start:stop] for start, stop in pairwise(first.tolist())]


@entry
def _run_lengths(changes: NDArray[np.int32], counts: NDArray[np.int64], pixels: NDArray[np.int64]) -> Runs:
    """The same, one mask after the other."""
    lengths, n, at = np.empty(len(changes) + len(counts), np.int64), 0, 0
    for mask in range(len(counts)):
        before = 0
        for change in changes[at : at + counts[mask]]:
            lengths[n], before, n = change - before, change, n + 1
        lengths[n], n, at = pixels[mask] - before, n + 1, at + counts[mask]
    return lengths
