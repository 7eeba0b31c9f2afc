"""One training step: the image is encoded once, then prompted over several rounds (paper §A "Training algorithm").

Gradients of each round flow into a detached copy of the features at once, so that only one round's decoder
activations are alive at a time; the encoder is walked back once at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, NOT_A_POINT, PromptEmbeddings
from sam_core.model.sam import Sam
from sam_core.training.config import TrainConfig
from sam_core.training.draws import Draws, prompt_draws, step_stream
from sam_core.training.losses import RoundLoss, round_loss
from sam_core.training.prompt_sampler import Clicks, correction_points, first_points, noised_boxes
from sam_core.training.schedule import Round, interactive_rounds
from sam_core.training.targets import TrainBatch, Truth, normalised, truth_of


@dataclass(frozen=True, slots=True)
class StepLosses:
    """Means over the rounds of a step, and the real IoU of the chosen mask after the first and the last round.

    best_first_iou: of the best output of the first round, whichever was chosen.
    """

    focal: float
    dice: float
    iou: float
    first_iou: float
    best_first_iou: float
    last_iou: float


Encoder = Callable[[Tensor], ImageFeatures]
"""The image encoder, or a wrapper of it that joins the gradients of several workers."""


@dataclass(frozen=True, slots=True)
class PromptState:
    """Sparse prompts gathered so far, as points: xy [N, P, 2] model input frame; labels [N, P] with 2 and 3 for the
    corners of a box and -1 for the padding point; logits [N, 1, h, w] of the previous round or None; text: CLIP
    embeddings [N, W] or None, whose tokens take the first place where `spoken`, bool [N], is true."""

    xy: Tensor
    labels: Tensor
    logits: Tensor | None = None
    text: Tensor | None = None
    spoken: Tensor | None = None

    @property
    def single(self) -> bool:
        """Whether only one prompt (a point or a text with its padding, or a box) has been given: three masks are asked
        for. A mask beside it is a second one, as where a model is used (`answers.is_single`)."""
        return self.labels.shape[1] == 2 and self.logits is None

    def with_clicks(self, clicks: Clicks) -> PromptState:
        """One more point per mask."""
        xy = torch.cat([self.xy, clicks.xy[:, None]], 1)
        return replace(self, xy=xy, labels=torch.cat([self.labels, clicks.labels[:, None]], 1))


def text_prompts(batch: TrainBatch, config: TrainConfig, draws: Draws) -> PromptState:
    """A CLIP embedding with the padding point for `text_share` of a batch's masks, as `first_prompts` for the others.

    Noise of the length `text_noise` is added before a row is brought back to length 1, so that a text, whose embedding
    lies beside those of the pictures it describes, is not foreign to the model (Nukrai et al. 2022, "CapDec").
    """
    text = batch.text
    assert text is not None, "only batches with embeddings have text prompts"
    width = text.shape[1]
    if config.text_noise:
        text = F.normalize(text + draws.normal(width) * (config.text_noise / width**0.5), dim=-1)
    spoken = draws.uniform() < config.text_share
    others = first_prompts(batch, config, draws)
    return PromptState(
        torch.where(spoken[:, None, None], 0.0, others.xy),
        torch.where(spoken[:, None], NOT_A_POINT, others.labels),
        text=text,
        spoken=spoken,
    )


def prompt_tokens(sam: Sam, prompts: PromptState) -> PromptEmbeddings:
    """The prompts as the mask decoder takes them."""
    embedded = sam.prompt_encoder.embed(prompts.xy, prompts.labels, prompts.logits)
    if prompts.text is None:
        return embedded
    assert prompts.spoken is not None
    assert sam.text_prompt is not None, "a configuration with text has a model with text prompts"
    first = torch.where(prompts.spoken[:, None, None], sam.text_prompt(prompts.text), embedded.sparse[:, :1])
    return PromptEmbeddings(torch.cat([first, embedded.sparse[:, 1:]], 1), embedded.dense)


def first_prompts(batch: TrainBatch, config: TrainConfig, draws: Draws) -> PromptState:
    """A point with its padding, or the two corners of a noised box, for each mask of a batch."""
    truth = batch.masks
    points = first_points(truth, draws)
    if config.centre_share:
        assert batch.centres is not None, "samples of a configuration with central points know where these are"
        central = draws.uniform() < config.centre_share
        points = Clicks(torch.where(central[:, None], batch.centres, points.xy), points.labels)
    cap = 20.0 * truth.shape[-1] / 1024  # the paper's 20 px belong to a 1024 px input
    corners = noised_boxes(truth, batch.sizes[batch.image_of], draws, cap=cap).view(-1, 2, 2)
    boxed = draws.uniform() < config.box_share
    padded = torch.stack([points.xy, torch.zeros_like(points.xy)], 1)
    point_labels = torch.stack([points.labels, torch.full_like(points.labels, NOT_A_POINT)], 1)
    box_labels = torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], device=truth.device).expand_as(point_labels)
    return PromptState(
        torch.where(boxed[:, None, None], corners, padded), torch.where(boxed[:, None], box_labels, point_labels)
    )


def run_round(
    sam: Sam, features: ImageFeatures, prompts: PromptState, truth: Truth, config: TrainConfig
) -> tuple[RoundLoss, Tensor]:
    """Decode once; returns the losses and the chosen logits [N, 1, h, w], detached."""
    with torch.autocast(truth.masks.device.type, torch.bfloat16, enabled=config.bfloat16):
        sparse, dense = prompt_tokens(sam, prompts)
        positions = sam.prompt_encoder.dense_positions()
        decoded = sam.mask_decoder(features, positions, sparse, dense, multimask=prompts.single)
    loss = round_loss(decoded.logits, decoded.iou, truth, config.losses)
    chosen = decoded.logits[torch.arange(len(truth.masks)), loss.chosen][:, None]
    return loss, chosen.detach().float()


def train_rounds(
    sam: Sam, batch: TrainBatch, config: TrainConfig, step: int, *, encoder: Encoder | None = None, weight: float = 1.0
) -> StepLosses:
    """Accumulate the gradients of one batch into the model's parameters.

    Args:
        sam: model whose input side is the batch's.
        batch: images and masks; at least one mask. Embeddings, where it has any, are first prompts.
        config: number of rounds, loss weights, precision, seed.
        step: decides the order of rounds; prompts follow each image's own number.
        encoder: stands in for the model's image encoder; called once, its result walked back once, at the end.
        weight: factor on the gradient, such as this batch's share of all masks of a step.

    Returns:
        Mean losses over the batch's masks, `weight` left out.
    """
    with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=config.bfloat16):
        encoded = (encoder or sam.image_encoder)(normalised(batch, sam.pixel_mean, sam.pixel_std))
    leaves = ImageFeatures(_leaf(encoded.embedding), tuple(_leaf(fine) for fine in encoded.fine))
    draws = prompt_draws(batch, config.seed)
    rounds = rounds_of(config, step)
    truth = truth_of(batch, 4 * encoded.embedding.shape[-1] * config.losses.finer)
    prompts = first_prompts(batch, config, draws) if batch.text is None else text_prompts(batch, config, draws)
    losses: list[RoundLoss] = []
    for kind in rounds:
        if kind is Round.POINT:
            assert prompts.logits is not None, "a correction follows a prediction"
            prediction = F.interpolate(prompts.logits, batch.masks.shape[-2:], mode="bilinear") > 0
            prompts = prompts.with_clicks(correction_points(prediction[:, 0], truth.masks, truth.shown, draws))
        loss, chosen = run_round(sam, leaves.take(batch.image_of), prompts, truth, config)
        (loss.total * (weight / len(rounds))).backward()
        prompts = replace(prompts, logits=chosen)
        losses.append(loss)
    walk_back(encoded, leaves)
    return summary(losses)


def rounds_of(config: TrainConfig, step: int) -> tuple[Round, ...]:
    """The rounds of a step, the same for all workers."""
    draws, points = step_stream(config.seed, step), config.points
    if config.fewer_points:
        points = int(torch.randint(1, points + 1, (), generator=draws))
    return interactive_rounds(points, draws, refinements=config.refinements)


def walk_back(encoded: ImageFeatures, leaves: ImageFeatures) -> None:
    """Carry the gradients gathered in `leaves` back through the encoder, where any of it learns."""
    ends = [(end, leaf.grad) for end, leaf in zip(_flat(encoded), _flat(leaves), strict=True) if end.requires_grad]
    if ends:
        torch.autograd.backward([end for end, _ in ends], [grad for _, grad in ends])


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def _flat(features: ImageFeatures) -> list[Tensor]:
    return [features.embedding, *features.fine]


def summary(rounds: list[RoundLoss]) -> StepLosses:
    """Means of a step's rounds."""

    def chosen(loss: RoundLoss) -> float:
        return loss.real_iou.gather(1, loss.chosen[:, None]).mean().item()

    def mean(values: list[Tensor]) -> float:
        return torch.stack(values).mean().item()

    return StepLosses(
        focal=mean([loss.focal for loss in rounds]),
        dice=mean([loss.dice for loss in rounds]),
        iou=mean([loss.iou for loss in rounds]),
        first_iou=chosen(rounds[0]),
        best_first_iou=rounds[0].real_iou.amax(1).mean().item(),
        last_iou=chosen(rounds[-1]),
    )
