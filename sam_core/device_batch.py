"""One batch of crops on a device, from pixels to the candidates of each crop after NMS, with their run lengths.

The host decides, the device computes: while the host looks at the numbers of one batch of prompts, the next two
are already being decoded, so that neither waits for the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.device_copies import OnItsWay, to_device
from sam_core.device_kernels import decode_of, decoder_of, draw_of, encoder_of, round_matrices, tracer_of
from sam_core.device_settings import AHEAD, BatchSizes, DeviceSettings
from sam_core.geometry import Frame, points_to_input
from sam_core.masks.batch import Reason
from sam_core.masks.candidates import KEPT, Candidates, Ledger, concatenate, decoded, object_column
from sam_core.masks.group_nms import nms_in_groups
from sam_core.masks.select import judge_measures, judge_predicted_iou
from sam_core.masks.tracing import Changes, Tracer, measures, run_lengths
from sam_core.model.grouped_decoder import DecodedGroups, SharedCrops
from sam_core.model.image_side import Wanted
from sam_core.model.prompt_encoder import FOREGROUND, Prompts
from sam_core.model.sam import Sam
from sam_core.prompting import Points
from sam_core.recipes import Recipe

MOST_IN_GROUP = 64
"""Prompts of one crop in a group: all of an 8 x 8 grid, and enough to make use of what they share."""

Item = TypeVar("Item")
Begun = TypeVar("Begun")


class CropInput(NamedTuple):
    """A crop to work on: its frame, its points, and its pixels uint8 [*frame.input_size, 3]."""

    frame: Frame
    points: Points
    pixels: NDArray[np.uint8]


class _Piece(NamedTuple):
    """Consecutive points of one crop of the batch."""

    crop: int
    points: Points


class _Asked(NamedTuple):
    """Groups of prompts being decoded, those of a crop as one piece, whose prompts are the decoded ones at `rows`."""

    pieces: list[_Piece]
    rows: list[NDArray[np.int64]]
    decoded: DecodedGroups
    iou: OnItsWay


@dataclass(slots=True)
class _Found:
    """What is known of one crop of the batch."""

    ledger: Ledger = field(default_factory=Ledger)
    candidates: list[Candidates] = field(default_factory=list)


class BatchWorker:
    """Works on batches of crops; keeps the model, its compiled forms, and nothing of a batch."""

    def __init__(self, sam: Sam, recipe: Recipe, settings: DeviceSettings) -> None:
        dtype = settings.torch_dtype
        self._sam = round_matrices(sam, dtype)
        self._recipe, self._settings = recipe, settings
        self._encode = encoder_of(sam, settings)
        self._decoder = decoder_of(sam, settings)
        self._decode = decode_of(self._decoder, settings)
        self._draw = draw_of(self._decoder, settings)
        layers = range(recipe.crop_layers + 1)
        self._group = min(MOST_IN_GROUP, *(recipe.points_in_layer(layer) ** 2 for layer in layers))

    def work(self, batch: Sequence[CropInput], sizes: BatchSizes) -> list[tuple[Candidates, Ledger]]:
        """Candidates of each crop with their run lengths, the most confident first, and the account of the rest.

        Raises torch.OutOfMemoryError when `sizes` are too large for the device; nothing is lost then.
        """
        if not batch:
            return []
        together, found = Ledger(), [_Found() for _ in batch]
        changes: list[Changes] = []
        tracer = tracer_of(self._settings, self._sam, [crop.frame for crop in batch], self._recipe)
        with self._precision():
            with together.timed("encode"):
                shared = self._encoded(batch, sizes)

            def ask(pieces: list[_Piece]) -> _Asked:
                with together.timed("decode"):
                    return self._ask(shared, batch, pieces, sizes)

            def settle(asked: _Asked) -> None:
                changes.extend(self._settle(asked, shared, batch, tracer, found, together))

            begun_ahead(self._groups(batch, sizes), ask, settle)
        answers = self._suppressed(batch, found, changes, together)
        for ledger in (each.ledger for each in found):
            for step in ("encode", "decode", "select", "nms", "rle"):
                ledger.spend(step, getattr(together.seconds, step) / len(batch))
        return [(candidates, each.ledger) for candidates, each in zip(answers, found, strict=True)]

    def release(self) -> None:
        """Give back memory that the allocator holds on to."""
        if self._sam.device.type == "cuda":
            torch.cuda.empty_cache()

    def _encoded(self, batch: Sequence[CropInput], sizes: BatchSizes) -> SharedCrops:
        """The crops with what their prompts share. Where the encoder is compiled, always `sizes.crops` at a time."""
        side = self._sam.config.image_size
        count = len(batch) if self._settings.compile == "off" else max(len(batch), sizes.crops)
        pixels, within = np.zeros((count, side, side, 3), np.uint8), np.zeros((count, 2), np.int64)
        for row, crop in enumerate(batch):
            height, width = crop.frame.input_size
            pixels[row, :height, :width], within[row] = crop.pixels, (height, width)
        features = self._encode(to_device(pixels, self._sam.device), to_device(within, self._sam.device))
        prompter = self._sam.prompt_encoder
        no_mask = prompter.no_mask_embed.weight[..., None, None]
        return self._decoder.share(features.take(slice(0, len(batch))), prompter.dense_positions(), no_mask)

    def _groups(self, batch: Sequence[CropInput], sizes: BatchSizes) -> Iterator[list[_Piece]]:
        """Pieces of at most a group, as many as are decoded at a time, crop by crop."""
        size = min(self._group, sizes.prompts)
        pieces = list(_pieces(batch, size))
        for start in range(0, len(pieces), sizes.prompts // size):
            yield pieces[start : start + sizes.prompts // size]

    def _ask(self, shared: SharedCrops, batch: Sequence[CropInput], pieces: list[_Piece], sizes: BatchSizes) -> _Asked:
        """Begin to decode some pieces; all are filled up to one size and, for a compiled decoder, one number."""
        device, size = self._sam.device, min(self._group, sizes.prompts)
        count = len(pieces) if self._settings.compile == "off" else sizes.prompts // size
        crops = np.array([piece.crop for piece in pieces] + [pieces[-1].crop] * (count - len(pieces)))
        clicks = np.zeros((count, size, 1, 2))
        for place, (crop, points) in enumerate(pieces):
            clicks[place, : len(points), 0] = points_to_input(torch.from_numpy(points), batch[crop].frame).numpy()
        on_device = to_device(clicks.reshape(-1, 1, 2), device)
        prompts = Prompts(on_device, torch.full(on_device.shape[:2], FOREGROUND, device=device))
        answer = self._decode(shared.take(to_device(crops, device)), self._sam.prompt_encoder(prompts)[0])
        return _Asked(*_by_crop(pieces, size), answer, OnItsWay(answer.iou.float()))

    def _settle(
        self,
        asked: _Asked,
        shared: SharedCrops,
        batch: Sequence[CropInput],
        tracer: Tracer,
        found: list[_Found],
        together: Ledger,
    ) -> Iterator[Changes]:
        """Judges what was decoded, books it in `found`, and yields the changes of what is left, in the same order."""
        with together.timed("decode"):
            iou = asked.iou.arrived()
            fresh = [
                decoded(piece.points, iou[rows], batch[piece.crop].frame.crop_box)
                for piece, rows in zip(asked.pieces, asked.rows, strict=True)
            ]
            verdicts = [judge_predicted_iou(candidates, self._recipe) for candidates in fresh]
            wanted, crop_of = np.zeros(iou.shape, np.bool_), np.zeros(len(iou), np.int64)
            for piece, rows, verdict in zip(asked.pieces, asked.rows, verdicts, strict=True):
                wanted[rows], crop_of[rows] = (verdict == KEPT).reshape(-1, iou.shape[1]), piece.crop
            logits = self._drawn(asked.decoded, shared, wanted, crop_of)
        with together.timed("select"):
            crops = to_device(np.repeat(crop_of, wanted.sum(axis=1)), logits.device)
            notes = tracer.notes(logits, crops)
            of_mask, left = OnItsWay(notes.of_mask).arrived(), []
            for piece, candidates, verdict in zip(asked.pieces, fresh, verdicts, strict=True):
                frame, book = batch[piece.crop].frame, found[piece.crop]
                drawn = book.ledger.settle(candidates, verdict)
                mine, of_mask = of_mask[: len(drawn)], of_mask[len(drawn) :]
                measured = drawn.measured(measures(mine, frame))
                judged = judge_measures(measured, frame, self._recipe)
                book.candidates.append(book.ledger.settle(measured, judged))
                left.append(judged == KEPT)
            keep = to_device(np.flatnonzero(np.concatenate(left)), logits.device)
            yield tracer.changes(logits[keep], crops[keep], type(notes)(*(column[keep] for column in notes)))

    def _drawn(
        self, answer: DecodedGroups, shared: SharedCrops, wanted: NDArray[np.bool_], crop_of: NDArray[np.int64]
    ) -> Tensor:
        """Logits [K, h, w] of the masks that are wanted, bool [N, M], in row-major order."""
        prompts = np.flatnonzero(wanted.any(axis=1))
        side = self._sam.config.image_encoder.grid
        masks = np.flatnonzero(wanted[prompts])
        if not len(masks):
            return torch.empty(0, 4 * side, 4 * side, device=self._sam.device)
        chosen = (to_device(each, self._sam.device) for each in (prompts, crop_of[prompts], masks))
        return self._draw(shared, answer, Wanted(*chosen))

    def _suppressed(
        self, batch: Sequence[CropInput], found: list[_Found], changes: list[Changes], together: Ledger
    ) -> list[Candidates]:
        """Candidates of every crop after NMS; the run lengths of those that are left come to the host."""
        with together.timed("nms"):
            candidates = [concatenate(each.candidates) for each in found]
            everyone, device = concatenate(candidates), self._sam.device
            crop_of = np.repeat(np.arange(len(batch)), [len(each) for each in candidates])
            columns = (everyone.boxes, everyone.predicted_iou, crop_of)
            kept = nms_in_groups(*(to_device(each, device) for each in columns), threshold=self._recipe.nms_iou)
            keep = OnItsWay(kept).arrived()
        with together.timed("rle"):
            runs = np.full(len(everyone), None)
            wanted = np.sort(keep)
            positions, counts = _chosen(changes, to_device(wanted, device))
            pixels = np.array([np.prod(crop.frame.original_size) for crop in batch])
            runs[wanted] = object_column(run_lengths(positions, counts, pixels[crop_of[wanted]]))
        first = np.concatenate([[0], np.cumsum([len(each) for each in candidates])])
        answers = []
        for crop, (book, own) in enumerate(zip(found, candidates, strict=True)):
            rows = keep[crop_of[keep] == crop]
            survivors = book.ledger.survivors(own, rows - first[crop], Reason.NMS_IN_CROP)
            answers.append(replace(survivors, runs=runs[rows]))
        return answers

    @contextmanager
    def _precision(self) -> Iterator[None]:
        dtype = self._settings.torch_dtype
        with (
            torch.inference_mode(),
            torch.autocast(self._sam.device.type, dtype, enabled=dtype != torch.float32),
        ):
            yield


def begun_ahead(items: Iterable[Item], begin: Callable[[Item], Begun], finish: Callable[[Begun], None]) -> None:
    """Begin and finish every item in order, but begin AHEAD others before each is finished."""
    waiting: deque[Begun] = deque()
    for item in items:
        waiting.append(begin(item))
        if len(waiting) > AHEAD:
            finish(waiting.popleft())
    while waiting:
        finish(waiting.popleft())


def _pieces(batch: Sequence[CropInput], size: int) -> Iterator[_Piece]:
    for crop, each in enumerate(batch):
        for start in range(0, len(each.points), size):
            yield _Piece(crop, each.points[start : start + size])


def _by_crop(pieces: list[_Piece], size: int) -> tuple[list[_Piece], list[NDArray[np.int64]]]:
    """The pieces of every crop as one, and the rows that it has where each piece has `size` rows."""
    merged, rows = [], []
    for crop, places in groupby(range(len(pieces)), key=lambda place: pieces[place].crop):
        own = list(places)
        merged.append(_Piece(crop, np.concatenate([pieces[place].points for place in own])))
        rows.append(np.concatenate([place * size + np.arange(len(pieces[place].points)) for place in own]))
    return merged, rows


def _chosen(changes: Sequence[Changes], rows: Tensor) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Changes of the masks at `rows`, int64 ascending, on the host: positions one after the other, and their counts."""
    counts = torch.cat([each.counts for each in changes])
    chosen = torch.zeros(len(counts), dtype=torch.bool, device=counts.device)
    chosen[rows] = True
    positions = torch.cat([each.positions for each in changes])[chosen.repeat_interleave(counts)]
    some, each = OnItsWay(positions), OnItsWay(counts[rows])
    return some.arrived(), each.arrived()
