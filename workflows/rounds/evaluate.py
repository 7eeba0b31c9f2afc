"""What a round's model is worth on held-out images: simulated clicks, and every mask that it generates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import torch
from numpy.typing import NDArray

from sam_core.annotators import Costs, Drawn, Habits, draw, join
from sam_core.generator import MaskGenerator
from sam_core.masks import rle
from sam_core.masks.batch import Generation
from sam_core.metrics.iou import iou_matrix
from sam_core.metrics.recall import Overlaps, average_recall
from sam_core.model.checkpoint import load_model
from sam_core.model.sam import Sam
from sam_core.predict import encode
from sam_core.recipes import recipe, recommended_recipe
from schemas.tables import Stage, Status
from workflows.convert import ImageResult
from workflows.models import Model
from workflows.rounds.config import EvaluationSettings
from workflows.rounds.outcomes import Figures
from workflows.rounds.pictures import TrueImage, Truth
from workflows.rounds.small_run import small_run, write_run
from workflows.storage import Store


@dataclass(frozen=True, slots=True)
class Pace:
    """How simulated people work: until when, how fast, and how long on an image."""

    habits: Habits
    costs: Costs
    seconds_per_image: float


def measure(model: Model, truth: Truth, settings: EvaluationSettings, pace: Pace, *, seed: int) -> Figures:
    """Figures of a model on the first held-out images."""
    sam = load_model(model.path).sam
    drawn, fitting, overlaps = [], [], []
    for place, image in enumerate(truth.first(settings.images)):
        some = image.masks[_some(image, settings.masks_per_image, seed)]
        if not len(some):
            continue
        found = draw(sam, encode(sam, [image.image]), some, pace.habits)
        drawn.append(replace(found, masks=found.masks[:, :0, :0]))  # only the figures are kept
        fitting.append(min(len(image.masks), pace.seconds_per_image / _seconds(found, pace).mean()))
        if place < settings.recall_images:
            overlaps.append(_overlaps(generate(sam, model, image, settings), image))
    if not drawn:
        raise ValueError("no held-out image has a mask to measure with")
    return _figures(join(drawn), fitting, overlaps, pace)


def write_held_out(
    store: Store, model: Model, truth: Truth, settings: EvaluationSettings, *, round: int, begun: datetime
) -> str | None:
    """The masks that a model finds on held-out images as a run of the round, for reports and SQL; its id."""
    if not settings.recall_images:
        return None
    sam = load_model(model.path).sam
    results = [
        ImageResult(image.image_id, Status.OK, begun, begun, generation=generate(sam, model, image, settings))
        for image in truth.first(settings.recall_images)
    ]
    name = recommended_recipe(model.name)
    run = small_run(
        model,
        name=f"held-out-round-{round}",
        round=round,
        stage=Stage.AUTOMATIC,
        begun=begun,
        recipe={"recipe": name, "points_per_side": settings.points_per_side},
        kernels=name,
    )
    return write_run(store, run, results).run_id


def generate(sam: Sam, model: Model, image: TrueImage, settings: EvaluationSettings) -> Generation:
    """Every mask of a held-out image, by the recipe that suits the model."""
    chosen = replace(recipe(recommended_recipe(model.name)), points_per_side=settings.points_per_side)
    return MaskGenerator(sam, chosen).generate(image.image)


def _some(image: TrueImage, count: int, seed: int) -> NDArray[np.int64]:
    """Which masks of an image are drawn; decided by the seed and the image alone."""
    order = np.random.default_rng([seed, int(image.image_id[:12], 16)]).permutation(len(image.masks))
    return np.sort(order[:count])


def _overlaps(found: Generation, image: TrueImage) -> Overlaps:
    areas = np.count_nonzero(image.masks, axis=(1, 2)).astype(np.float64)
    size = image.image.shape[:2]
    masks = [rle.decode(counts, (size[0], size[1])) for counts in found.masks.rle[:1000]]
    if not masks:
        return Overlaps(np.zeros((0, len(areas))), areas)
    return Overlaps(iou_matrix(torch.from_numpy(np.stack(masks)), torch.from_numpy(image.masks)).numpy(), areas)


def _figures(drawn: Drawn, fitting: Sequence[float], overlaps: Sequence[Overlaps], pace: Pace) -> Figures:
    return Figures(
        images=len(fitting),
        masks=len(drawn),
        miou=float(drawn.first_iou.mean()),
        clicks_to_090=float(drawn.clicks.mean()),
        reached=float((drawn.brushed == 0).mean()),
        seconds_per_mask=float(_seconds(drawn, pace).mean()),
        masks_per_image=float(np.mean(fitting)),
        average_recall=average_recall(overlaps).all if overlaps else None,
    )


def _seconds(drawn: Drawn, pace: Pace) -> NDArray[np.float64]:
    return pace.costs.drawing(drawn.clicks, drawn.brushed)
