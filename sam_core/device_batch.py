"""One batch of crops on a device, from pixels to the candidates of each crop after NMS, and where their masks change.

The host decides, the device computes. The work is cut into tasks that stop wherever the host has to know what the
device found; `device_pipeline` goes on with others meanwhile, so that neither waits for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.device_copies import OnItsWay, to_device
from sam_core.device_kernels import decode_of, decoder_of, draw_of, encoder_of, round_matrices, tracer_of
from sam_core.device_settings import BatchSizes, DeviceSettings
from sam_core.device_streams import Beside, Mark
from sam_core.geometry import Frame
from sam_core.masks.batch import Reason
from sam_core.masks.candidates import KEPT, Candidates, Ledger, concatenate, decoded, object_column
from sam_core.masks.group_nms import nms_in_groups
from sam_core.masks.select import judge_measures, judge_predicted_iou
from sam_core.masks.tracing import CHANGED, Notes, Tracer, measures, run_lengths
from sam_core.model.grouped_decoder import DecodedGroups, SharedCrops
from sam_core.model.image_side import Wanted
from sam_core.model.prompt_encoder import FOREGROUND, Prompts
from sam_core.model.sam import Sam
from sam_core.prompting import Points
from sam_core.recipes import Recipe

MOST_IN_GROUP = 64
"""Prompts of one crop in a group: all of an 8 x 8 grid, and enough to make use of what they share."""

Task = Iterator[None]
"""Some work on the device. Wherever it yields, it needs next what the device is still at."""


class CropInput(NamedTuple):
    """A crop to work on: its frame, its points in the original image and in the model input, and its pixels, uint8
    [*frame.input_size, 3], ready to be copied."""

    frame: Frame
    points: Points
    clicks: Points
    pixels: Tensor


class Answer(NamedTuple):
    """What is known of a crop: candidates, the most confident first, where their masks change, and the account of the
    rest. changes: positions, one mask after the other. counts: how many each mask has. pixels: of the original image.
    """

    candidates: Candidates
    changes: NDArray[np.int32]
    counts: NDArray[np.int64]
    pixels: int
    ledger: Ledger

    def encoded(self) -> Candidates:
        """The candidates with their masks as COCO compressed counts."""
        runs = run_lengths(self.changes, self.counts, np.full(len(self.counts), self.pixels))
        return replace(self.candidates, runs=object_column(runs)).encoded()


class _Piece(NamedTuple):
    """Consecutive points of one crop of the batch, from `start` up to, but not including, `stop`."""

    crop: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


class _Asked(NamedTuple):
    """Groups of prompts being decoded, those of a crop as one piece, whose prompts are the decoded ones at `rows`."""

    pieces: list[_Piece]
    rows: list[NDArray[np.int64]]
    decoded: DecodedGroups
    iou: OnItsWay


class _Drawn(NamedTuple):
    """Logits [K, h, w] of the candidates that passed on predicted IoU, piece by piece, and what is noted of them.

    crops: int64 [K]. noted: the numbers of the masks on their way to the host.
    """

    pieces: list[_Piece]
    candidates: list[Candidates]
    logits: Tensor
    crops: Tensor
    notes: Notes
    noted: OnItsWay


@dataclass(slots=True)
class _Found:
    """What is known of one crop of the batch."""

    ledger: Ledger = field(default_factory=Ledger)
    candidates: list[Candidates] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    """A batch in work. encoded: its crops, once the device is at `ready`. together: seconds spent on all of them.

    left: groups of prompts that are not settled. changes: positions, group by group. changed: how many each mask has.
    """

    batch: Sequence[CropInput]
    sizes: BatchSizes
    done: Callable[[list[Answer]], None]
    tracer: Tracer
    encoded: SharedCrops
    ready: Mark
    together: Ledger
    found: list[_Found]
    left: int
    changes: list[Tensor] = field(default_factory=list)
    changed: list[NDArray[np.int64]] = field(default_factory=list)


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
        self._beside, self._between = Beside(sam.device), Beside(sam.device, hurried=True)
        layers = range(recipe.crop_layers + 1)
        self._group = min(MOST_IN_GROUP, *(recipe.points_in_layer(layer) ** 2 for layer in layers))

    def tasks(
        self, batch: Sequence[CropInput], sizes: BatchSizes, done: Callable[[list[Answer]], None]
    ) -> Iterator[Task]:
        """Begins to encode a batch, and returns the rest of its work: tasks to be begun in order, each while the ones
        before it go on, of which the last ends by giving `done` the answers, one for each crop.

        Tasks run within `precision`; they raise torch.OutOfMemoryError when `sizes` are too large for the device.
        """
        together = Ledger()
        with together.timed("encode"):
            with self._beside.working():
                encoded = self._encoded(batch, sizes)
            ready = self._beside.mark()
        groups = list(self._groups(batch, sizes))
        assert groups, "every crop has points"
        tracer = tracer_of(self._settings, self._sam, [crop.frame for crop in batch], self._recipe)
        work = _Work(batch, sizes, done, tracer, encoded, ready, together, [_Found() for _ in batch], len(groups))
        return (self._task(work, pieces) for pieces in groups)

    def _task(self, work: _Work, pieces: list[_Piece]) -> Task:
        """Prompts from decoding to what their masks' run lengths are made of; with the last ones, the whole batch."""
        with work.together.timed("decode"):
            work.ready.passed()
            asked = self._ask(work, pieces)
        yield
        drawn = self._drawn_and_noted(work, asked)
        del asked
        yield
        with work.together.timed("select"):
            self._select(work, drawn)
        del drawn
        work.left -= 1
        if not work.left:
            yield from self._finish(work)

    def release(self) -> None:
        """Give back memory that the allocator holds on to, once nothing on the device reads it."""
        if self._sam.device.type == "cuda":
            torch.cuda.synchronize(self._sam.device)
            torch.cuda.empty_cache()

    def _encoded(self, batch: Sequence[CropInput], sizes: BatchSizes) -> SharedCrops:
        """The crops with what their prompts share. Where the encoder is compiled, always `sizes.crops` at a time."""
        side, device = self._sam.config.image_size, self._sam.device
        count = len(batch) if self._settings.compile == "off" else max(len(batch), sizes.crops)
        pixels, within = torch.zeros(count, side, side, 3, dtype=torch.uint8, device=device), np.zeros((count, 2), int)
        for row, crop in enumerate(batch):
            height, width = within[row] = crop.frame.input_size
            pixels[row, :height, :width].copy_(crop.pixels, non_blocking=True)
        features = self._encode(pixels, to_device(within, device))
        prompter = self._sam.prompt_encoder
        no_mask = prompter.no_mask_embed.weight[..., None, None]
        return self._decoder.share(features.take(slice(0, len(batch))), prompter.dense_positions(), no_mask)

    def _groups(self, batch: Sequence[CropInput], sizes: BatchSizes) -> Iterator[list[_Piece]]:
        """Pieces of at most a group, as many as are decoded at a time, crop by crop."""
        size = min(self._group, sizes.prompts)
        pieces = list(_pieces(batch, size))
        for start in range(0, len(pieces), sizes.prompts // size):
            yield pieces[start : start + sizes.prompts // size]

    def _ask(self, work: _Work, pieces: list[_Piece]) -> _Asked:
        """Begin to decode some pieces; all are filled up to one size and, for a compiled decoder, one number."""
        device, size = self._sam.device, min(self._group, work.sizes.prompts)
        count = len(pieces) if self._settings.compile == "off" else work.sizes.prompts // size
        crops = np.array([piece.crop for piece in pieces] + [pieces[-1].crop] * (count - len(pieces)))
        clicks = np.zeros((count, size, 1, 2))
        for place, piece in enumerate(pieces):
            clicks[place, : piece.length, 0] = work.batch[piece.crop].clicks[piece.start : piece.stop]
        on_device = to_device(clicks.reshape(-1, 1, 2), device)
        prompts = Prompts(on_device, torch.full(on_device.shape[:2], FOREGROUND, device=device))
        answer = self._decode(work.encoded.take(to_device(crops, device)), self._sam.prompt_encoder(prompts)[0])
        return _Asked(*_by_crop(pieces, size), answer, OnItsWay(answer.iou.float()))

    def _drawn_and_noted(self, work: _Work, asked: _Asked) -> _Drawn:
        """Judges predicted IoU, and draws and measures what passes."""
        with work.together.timed("decode"):
            iou = asked.iou.arrived()
            wanted, crop_of = np.zeros(iou.shape, np.bool_), np.zeros(len(iou), np.int64)
            passed = []
            for piece, rows in zip(asked.pieces, asked.rows, strict=True):
                crop = work.batch[piece.crop]
                fresh = decoded(crop.points[piece.start : piece.stop], iou[rows], crop.frame.crop_box)
                verdict = judge_predicted_iou(fresh, self._recipe)
                wanted[rows], crop_of[rows] = (verdict == KEPT).reshape(-1, iou.shape[1]), piece.crop
                passed.append(work.found[piece.crop].ledger.settle(fresh, verdict))
            logits = self._drawn(asked.decoded, work.encoded, wanted, crop_of)
        with work.together.timed("select"):
            crops = to_device(np.repeat(crop_of, wanted.sum(axis=1)), logits.device)
            notes = work.tracer.notes(logits, crops)
            return _Drawn(asked.pieces, passed, logits, crops, notes, OnItsWay(notes.of_mask))

    def _select(self, work: _Work, drawn: _Drawn) -> None:
        """Judges what was measured, books it, and has the changes found of what is left."""
        of_mask, left, first = drawn.noted.arrived(), [], 0
        for piece, candidates in zip(drawn.pieces, drawn.candidates, strict=True):
            frame, book = work.batch[piece.crop].frame, work.found[piece.crop]
            measured = candidates.measured(measures(of_mask[first : first + len(candidates)], frame))
            judged = judge_measures(measured, frame, self._recipe)
            book.candidates.append(book.ledger.settle(measured, judged))
            left.append(judged == KEPT)
            first += len(candidates)
        rows = np.flatnonzero(np.concatenate(left))
        keep, changed = to_device(rows, drawn.logits.device), of_mask[rows, CHANGED]
        notes = Notes(*(column[keep] for column in drawn.notes))
        work.changes.append(work.tracer.changes(drawn.logits[keep], drawn.crops[keep], notes, int(changed.sum())))
        work.changed.append(changed)

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

    def _finish(self, work: _Work) -> Task:
        """NMS in each crop; the run lengths of those that are left come to the host, and the answers are given."""
        with work.together.timed("nms"):
            candidates = [concatenate(each.candidates) for each in work.found]
            everyone, crop_of = concatenate(candidates), np.repeat(np.arange(len(candidates)), [*map(len, candidates)])
            with self._between.working():
                keep = self._kept(everyone, crop_of).arrived()
        with work.together.timed("rle"):
            counts = np.concatenate(work.changed)
            positions = OnItsWay(_of_masks(work.changes, counts, keep))
        yield
        with work.together.timed("rle"):
            changes = positions.arrived()
        first, at = np.concatenate([[0], np.cumsum([len(each) for each in candidates])]), 0
        answers: list[Answer] = []
        for crop, (book, own) in enumerate(zip(work.found, candidates, strict=True)):
            for step in ("encode", "decode", "select", "nms", "rle"):
                book.ledger.spend(step, getattr(work.together.seconds, step) / len(work.batch))
            rows = keep[crop_of[keep] == crop]
            survivors = book.ledger.survivors(own, rows - first[crop], Reason.NMS_IN_CROP)
            mine, pixels = counts[rows], int(np.prod(work.batch[crop].frame.original_size))
            end = at + int(mine.sum())
            answers.append(Answer(survivors, changes[at:end], mine, pixels, book.ledger))
            at = end
        work.done(answers)

    def _kept(self, candidates: Candidates, crop_of: NDArray[np.int64]) -> OnItsWay:
        """Rows after NMS, crop by crop."""
        columns = (to_device(x, self._sam.device) for x in (candidates.boxes, candidates.predicted_iou, crop_of))
        return OnItsWay(nms_in_groups(*columns, threshold=self._recipe.nms_iou))

    @contextmanager
    def precision(self) -> Iterator[None]:
        """What tasks run within."""
        dtype, device = self._settings.torch_dtype, self._sam.device
        with (
            torch.cuda.device(device) if device.type == "cuda" else nullcontext(),
            torch.inference_mode(),
            torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        ):
            yield


def _pieces(batch: Sequence[CropInput], size: int) -> Iterator[_Piece]:
    for crop, each in enumerate(batch):
        for start in range(0, len(each.points), size):
            yield _Piece(crop, start, min(start + size, len(each.points)))


def _by_crop(pieces: list[_Piece], size: int) -> tuple[list[_Piece], list[NDArray[np.int64]]]:
    """The pieces of every crop as one, and the rows that it has where each piece has `size` rows."""
    merged, rows = [], []
    for crop, places in groupby(range(len(pieces)), key=lambda place: pieces[place].crop):
        own = list(places)
        merged.append(_Piece(crop, pieces[own[0]].start, pieces[own[-1]].stop))
        rows.append(np.concatenate([place * size + np.arange(pieces[place].length) for place in own]))
    return merged, rows


def _of_masks(changes: list[Tensor], counts: NDArray[np.int64], rows: NDArray[np.int64]) -> Tensor:
    """The changes of some masks, one after the other; counts: of all masks, rows: int64.

    All sizes are known to the host, so nothing waits for the device.
    """
    positions = torch.cat(changes)
    chosen, device = counts[rows], positions.device
    shift = (np.cumsum(counts) - counts)[rows] - (np.cumsum(chosen) - chosen)
    total = int(chosen.sum())
    from_there = torch.repeat_interleave(to_device(shift, device), to_device(chosen, device), output_size=total)
    return positions[from_there + torch.arange(total, device=device)]
