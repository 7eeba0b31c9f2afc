"""Segmentation from simulated clicks and boxes, scored against ground truth (paper §7.1, §D.1).

One click asks for three outputs; the score is that of the most confident one, the oracle that of the best. From the
second click on the model gives its single output, with the previous logits as mask prompt. The oracle of later clicks
is the best of that output and of the three for the same prompts. A box prompt counts as a single prompt: the most
confident of three.

Shapes: N masks, C reported click counts, M outputs of the first click.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sam_core.geometry import masks_at_once
from sam_core.masks.boxes import tight_boxes
from sam_core.masks.kernels import pixels
from sam_core.masks.packed import PackedMasks
from sam_core.metrics.calibration import iou_correlation
from sam_core.metrics.clicks import Clicker, Clicks, DeepestClicks
from sam_core.metrics.iou import mask_iou
from sam_core.model.sam import Sam
from sam_core.predict import ImageEmbedding, Prompts, decode, encode

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """An image uint8 RGB [H, W, 3] and its true masks, none empty."""

    image: npt.NDArray[np.uint8]
    masks: PackedMasks

    def __post_init__(self) -> None:
        if self.masks.size != self.image.shape[:2]:
            raise ValueError(f"masks of {self.masks.size} px (h, w) for an image of {self.image.shape[:2]} px")


@dataclass(frozen=True, slots=True)
class MaskScores:
    """Real IoU of N masks in 0..1, float64.

    chosen, oracle: [N, C] after each reported number of clicks. box, box_oracle: [N].
    first_real, first_predicted: [N, M], every output of the first click and what the model thought of it.
    """

    chosen: Floats
    oracle: Floats
    box: Floats
    box_oracle: Floats
    first_real: Floats
    first_predicted: Floats

    def __len__(self) -> int:
        return len(self.chosen)

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> MaskScores:
        """The masks at `keep`: bool [N], or indices."""
        return MaskScores(*(getattr(self, field.name)[keep] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class ClickFigures:
    """Means over `masks` masks, 0..1. miou, oracle_miou: one value for each of `clicks`.

    iou_correlation: predicted against real IoU over all outputs of the first click. iou_bias: mean predicted minus mean
    real IoU over the same; positive means overconfident.
    """

    masks: int
    clicks: tuple[int, ...]
    miou: tuple[float, ...]
    oracle_miou: tuple[float, ...]
    box_miou: float
    box_oracle_miou: float
    iou_correlation: float
    iou_bias: float


def evaluate_clicks(sam: Sam, samples: Iterable[Sample], *, clicks: Sequence[int] = (1, 3)) -> ClickFigures:
    """Click and box figures of a model over images with true masks; one encoding per image.

    Args:
        sam: any model; put in eval mode for the time being, gradients off.
        samples: images without masks are passed over.
        clicks: increasing numbers of clicks to report.

    Raises:
        ValueError: no mask at all, an empty mask, or click counts that do not increase from at least 1.
    """
    scores = [score_sample(sam, sample, clicks=clicks) for sample in samples if len(sample.masks)]
    if not scores:
        raise ValueError("no masks to evaluate: every image came without ground truth")
    return summarise(join(scores), clicks)


def score_sample(
    sam: Sam,
    sample: Sample,
    *,
    clicks: Sequence[int],
    prompts_per_batch: int = 32,
    clicker: Clicker | None = None,
) -> MaskScores:
    """Scores of every mask of one image; arguments and errors as for `evaluate_clicks`.

    prompts_per_batch: prompts decoded together, on large pictures fewer; a bound on memory only.
    clicker: where the clicks fall; as deep inside as possible when not given.
    """
    if list(clicks) != sorted(set(clicks)) or not clicks or clicks[0] < 1:
        raise ValueError(f"click counts must increase from at least 1, got {tuple(clicks)}")
    at_once = masks_at_once(sample.masks.size, prompts_per_batch)
    with _evaluating(sam):
        embedding = encode(sam, [sample.image])
        return join(
            [
                _score_masks(sam, embedding, sample.masks[start : start + at_once], clicks, clicker or DeepestClicks())
                for start in range(0, len(sample.masks), at_once)
            ]
        )


def join(scores: Sequence[MaskScores]) -> MaskScores:
    """Scores of several images or batches as one."""
    return MaskScores(*(np.concatenate([getattr(s, field.name) for s in scores]) for field in fields(MaskScores)))


def summarise(scores: MaskScores, clicks: Sequence[int]) -> ClickFigures:
    """The mean figures of a set of masks; each mask counts once."""
    return ClickFigures(
        masks=len(scores),
        clicks=tuple(clicks),
        miou=tuple(scores.chosen.mean(0).tolist()),
        oracle_miou=tuple(scores.oracle.mean(0).tolist()),
        box_miou=float(scores.box.mean()),
        box_oracle_miou=float(scores.box_oracle.mean()),
        iou_correlation=iou_correlation(scores.first_predicted, scores.first_real),
        iou_bias=float(scores.first_predicted.mean() - scores.first_real.mean()),
    )


class _Answer(NamedTuple):
    """What the model gave for N prompts: mask [N, H, W] bool and logits [N, 1, h, w] of the most confident output, its
    real IoU [N]; real and predicted IoU [N, M] of all outputs."""

    mask: Tensor
    logits: Tensor
    chosen: Tensor
    real: Tensor
    predicted: Tensor


def _score_masks(
    sam: Sam, embedding: ImageEmbedding, masks: PackedMasks, clicks: Sequence[int], clicker: Clicker
) -> MaskScores:
    truth = torch.from_numpy(masks.dense()).to(sam.device)
    box = _answer(sam, embedding, Prompts(boxes=box_prompts(truth)), truth, multimask=True)
    # Only the scores of each answer are kept: nine answers with their masks would not fit beside a large image.
    steps = [
        (answer.chosen, oracle, answer.real, answer.predicted)
        for answer, oracle in _click_answers(sam, embedding, truth, clicks, clicker)
    ]
    chosen, oracles, real, predicted = zip(*steps, strict=True)
    reported = [count - 1 for count in clicks]
    return MaskScores(
        chosen=_array(torch.stack(chosen, 1)[:, reported]),
        oracle=_array(torch.stack(oracles, 1)[:, reported]),
        box=_array(box.chosen),
        box_oracle=_array(box.real.amax(1)),
        first_real=_array(real[0]),
        first_predicted=_array(predicted[0]),
    )


def _click_answers(
    sam: Sam, embedding: ImageEmbedding, truth: Tensor, clicks: Sequence[int], clicker: Clicker
) -> Iterator[tuple[_Answer, Tensor]]:
    """The answer after each click and its oracle IoU [N]; the oracle has all outputs where `clicks` reports it."""
    true_masks = truth.cpu().numpy()
    given: list[Clicks] = []
    answer: _Answer | None = None
    for count in range(1, clicks[-1] + 1):
        if answer is None:
            given.append(clicker.first(true_masks))
        else:
            given.append(clicker.correction(answer.mask.cpu().numpy(), true_masks))
        prompts = _click_prompts(given, answer.logits if answer else None, sam.device)
        answer = _answer(sam, embedding, prompts, truth, multimask=count == 1)
        oracle = answer.real.amax(1)
        if count > 1 and count in clicks:
            oracle = oracle.maximum(_answer(sam, embedding, prompts, truth, multimask=True).real.amax(1))
        yield answer, oracle


def box_prompts(truth: Tensor) -> Tensor:
    """Tight boxes of masks, xyxy with the end exclusive as annotations have them: float32 [N, 4]."""
    boxes = tight_boxes(truth)
    return (boxes + boxes.new_tensor([0, 0, 1, 1])).float()


def _click_prompts(given: Sequence[Clicks], logits: Tensor | None, device: torch.device) -> Prompts:
    points = torch.from_numpy(np.stack([click.xy for click in given], 1)).to(device)
    labels = torch.from_numpy(np.stack([click.labels for click in given], 1)).to(device)
    return Prompts(points=points, labels=labels, mask_logits=logits)


def _answer(sam: Sam, embedding: ImageEmbedding, prompts: Prompts, truth: Tensor, *, multimask: bool) -> _Answer:
    batch = decode(sam, embedding, prompts, multimask=multimask)
    masks = pixels(batch)
    real = mask_iou(masks, truth[:, None])
    each, best = torch.arange(len(masks), device=masks.device), batch.iou.argmax(1)
    return _Answer(masks[each, best], batch.logits[each, best][:, None], real[each, best], real, batch.iou)


@contextmanager
def _evaluating(sam: Sam) -> Iterator[None]:
    """Eval mode and no gradients inside; the model's own mode afterwards."""
    was_training = sam.training
    sam.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        sam.train(was_training)


def _array(values: Tensor) -> Floats:
    return values.double().cpu().numpy()
