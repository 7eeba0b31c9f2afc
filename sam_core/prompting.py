"""Points on an encoded crop to masks, in two steps: what the model thinks of each mask, then those masks one wants.

Two ways of doing it: `PlainPrompter` runs the decoder as it is written down, `AbsorbedPrompter` shares and absorbs what
belongs to the image (`model.absorbed_decoder`) and draws nothing that is not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_core.geometry import Frame, points_to_input
from sam_core.masks.bilinear import resize
from sam_core.model.absorbed_decoder import AbsorbedDecoder, DecodedPrompts, SharedImage
from sam_core.model.prompt_encoder import FOREGROUND, Prompts
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, decode

SPLIT_FROM = 256
"""Channels of a decoder, those of all released ones, from which products taken apart are faster: with half of them
taking apart takes as long as is saved (`tests/benchmarks/LOG.md`)."""

Points = NDArray[np.float64]
"""float64 [P, 2], xy, px, original frame: foreground clicks, one per prompt."""


class Answer(Protocol):
    """What the model says to P points; iou [P, M] is on the host."""

    @property
    def iou(self) -> NDArray[np.float32]: ...

    def draw(self, wanted: NDArray[np.bool_]) -> Tensor:
        """Low-resolution logits [K, h, w] of the K masks that wanted, bool [P, M], names, in row-major order."""


class Prompter(Protocol):
    """Answers points on one encoded crop."""

    def ask(self, points: Points) -> Answer: ...


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """All masks, already drawn."""

    iou: NDArray[np.float32]
    logits: Tensor

    def draw(self, wanted: NDArray[np.bool_]) -> Tensor:
        return self.logits[torch.from_numpy(wanted).to(self.logits.device)]


@dataclass(frozen=True, slots=True)
class PlainPrompter:
    """The decoder as written down in `model.mask_decoder`, every mask drawn."""

    sam: Sam
    embedding: ImageEmbedding

    def ask(self, points: Points) -> PlainAnswer:
        clicks = torch.from_numpy(points).to(self.sam.device)[:, None]
        labels = torch.full(clicks.shape[:2], FOREGROUND, device=clicks.device)
        batch = decode(self.sam, self.embedding, Prompts(clicks, labels), multimask=True)
        return PlainAnswer(batch.iou.float().cpu().numpy(), batch.logits)


@dataclass(frozen=True, slots=True)
class AbsorbedAnswer:
    """Masks not drawn yet."""

    iou: NDArray[np.float32]
    decoder: AbsorbedDecoder
    shared: SharedImage
    decoded: DecodedPrompts

    def draw(self, wanted: NDArray[np.bool_]) -> Tensor:
        return self.decoder.draw(self.shared, self.decoded, torch.from_numpy(wanted).to(self.decoded.iou.device))


class AbsorbedPrompter:
    """The absorbed decoder; what the crop's prompts share is computed here, once."""

    def __init__(self, sam: Sam, embedding: ImageEmbedding) -> None:
        self._encoder = sam.prompt_encoder
        self._frame: Frame = embedding.frames[0]
        split = sam.config.mask_decoder.transformer_dim >= SPLIT_FROM
        self._decoder = AbsorbedDecoder(sam.mask_decoder, split=split)
        no_mask = self._encoder.no_mask_embed.weight[..., None, None]
        positions = self._encoder.dense_positions()
        self._shared = self._decoder.share(embedding.features, positions, no_mask, seen=seen_cells(self._frame, sam))

    def ask(self, points: Points) -> AbsorbedAnswer:
        device = self._shared.image.device
        clicks = points_to_input(torch.from_numpy(points).to(device)[:, None], self._frame)
        prompts = Prompts(clicks, torch.full(clicks.shape[:2], FOREGROUND, device=device))
        decoded = self._decoder.decode(self._shared, self._encoder(prompts)[0])
        return AbsorbedAnswer(decoded.iou.float().cpu().numpy(), self._decoder, self._shared, decoded)


def seen_cells(frame: Frame, sam: Sam) -> tuple[int, int]:
    """Rows and columns of the embedding's cells whose logits can reach the crop, the rest being padding."""
    low_res, side = sam.config.low_res_size, frame.image_size
    rows, columns = (int(resize(low_res, side, kept=length).high[-1]) // 4 + 1 for length in frame.input_size)
    return rows, columns
