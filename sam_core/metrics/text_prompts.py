"""IoU of the masks that a text brings, with and without a click, beside prompts of the same kind that know nothing.

The paper shows text prompts without measuring them (section 7.5). Here each phrase names one true mask; besides the
phrase itself the model gets another phrase, the CLIP embedding of the true mask's own crop, which training uses in
place of text, the click alone, and a click somewhere.

Shapes: N phrases, H, W px of the image, C channels of CLIP's embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam_core.answers import answer
from sam_core.geometry import masks_at_once
from sam_core.masks.kernels import pixels
from sam_core.masks.packed import PackedMasks
from sam_core.metrics.iou import mask_iou
from sam_core.model.prompt_encoder import FOREGROUND
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts

PROMPTS_AT_ONCE = 16


class Way(StrEnum):
    """Ways to a mask, as tables call them."""

    TEXT = "text"
    TEXT_BEST = "text, best of three"
    OTHER_TEXT = "another text"
    IMAGE = "image embedding"
    POINT = "point"
    RIVAL_POINT = "point, rival model"
    TEXT_POINT = "text + point"
    OTHER_TEXT_POINT = "another text + point"
    RANDOM_POINT = "random point"
    LARGEST = "largest automatic mask"
    RANKED = "CLIP ranking"
    RANKED_POINT = "CLIP ranking at the point"
    AUTOMATIC_BEST = "best automatic mask"


@dataclass(frozen=True, slots=True)
class Phrases:
    """N phrases about one image, the mask that each means, and what else is asked.

    truth    their masks
    text     float32 [N, C], CLIP's embedding of each phrase
    other    float32 [N, C], of a phrase that means something else
    crop     float32 [N, C], CLIP's embedding of the crop of the true mask
    click    float32 [N, 2] xy px, in the true mask
    random   float32 [N, 2] xy px, anywhere
    """

    truth: PackedMasks
    text: Tensor
    other: Tensor
    crop: Tensor
    click: Tensor
    random: Tensor

    def __len__(self) -> int:
        return len(self.truth)

    def part(self, start: int, stop: int) -> Phrases:
        """Those from `start` to `stop`."""
        return Phrases(*(getattr(self, field.name)[start:stop] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class WayScores:
    """Real IoU of N phrases by one way: float64 [N]."""

    way: Way
    iou: npt.NDArray[np.float64]


def score_phrases(sam: Sam, embedding: ImageEmbedding, phrases: Phrases) -> list[WayScores]:
    """What every prompt of the model brings, one entry per way, for one embedded image."""
    parts = [dict(_ways(sam, embedding, part)) for part in _parts(phrases)]
    return [WayScores(way, np.concatenate([part[way] for part in parts])) for way in parts[0]]


def score_clicks(sam: Sam, embedding: ImageEmbedding, phrases: Phrases) -> WayScores:
    """What the clicks alone bring with another model, which may know nothing of text."""
    prompts = ((part, Prompts(part.click[:, None], _labels(part))) for part in _parts(phrases))
    iou = [_scores(sam, embedding, clicks, _pixels(part))[0] for part, clicks in prompts]
    return WayScores(Way.RIVAL_POINT, np.concatenate(iou))


def _parts(phrases: Phrases) -> Iterator[Phrases]:
    at_once = masks_at_once(phrases.truth.size, PROMPTS_AT_ONCE)
    for start in range(0, len(phrases), at_once):
        yield phrases.part(start, start + at_once)


def _pixels(phrases: Phrases) -> Tensor:
    return torch.from_numpy(phrases.truth.dense())


def _labels(phrases: Phrases) -> Tensor:
    return torch.full((len(phrases), 1), FOREGROUND)


def _ways(sam: Sam, embedding: ImageEmbedding, phrases: Phrases) -> Iterator[tuple[Way, npt.NDArray[np.float64]]]:
    click, somewhere, label = phrases.click[:, None], phrases.random[:, None], _labels(phrases)
    truth = _pixels(phrases)
    text, best = _scores(sam, embedding, Prompts(text=phrases.text), truth)
    yield Way.TEXT, text
    yield Way.TEXT_BEST, best
    for way, prompts in (
        (Way.OTHER_TEXT, Prompts(text=phrases.other)),
        (Way.IMAGE, Prompts(text=phrases.crop)),
        (Way.POINT, Prompts(click, label)),
        (Way.TEXT_POINT, Prompts(click, label, text=phrases.text)),
        (Way.OTHER_TEXT_POINT, Prompts(click, label, text=phrases.other)),
        (Way.RANDOM_POINT, Prompts(somewhere, label)),
    ):
        yield way, _scores(sam, embedding, prompts, truth)[0]


def _scores(
    sam: Sam, embedding: ImageEmbedding, prompts: Prompts, truth: Tensor
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Real IoU [N] of the most confident mask, and of the best one."""
    batch = answer(sam, embedding, prompts)
    real = mask_iou(pixels(batch).cpu(), truth[:, None])
    chosen = real[torch.arange(len(real)), batch.iou.cpu().argmax(1)]
    return chosen.numpy(), real.amax(1).numpy()
