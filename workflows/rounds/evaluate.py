"""What a round's model is worth on held-out images: simulated clicks, and every mask that it generates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from sam_core.annotators import Costs, Drawn, Habits, draw, join
from sam_core.generator import MaskGenerator
from sam_core.masks import rle
from sam_core.masks.batch import Generation
from sam_core.metrics.recall import Overlaps, average_recall
from sam_core.predict import look_at
from sam_core.recipes import Recipe, recipe, recommended_recipe
from schemas.tables import Status
from workflows.convert import ImageResult
from workflows.evaluate.proposals import proposal_overlaps
from workflows.models import Model
from workflows.rounds.config import EvaluationSettings
from workflows.rounds.outcomes import Figures
from workflows.rounds.pictures import TrueImage, Truth
from workflows.rounds.small_run import write_run
from workflows.runs import run_record
from workflows.storage import Store


@dataclass(frozen=True, slots=True)
class Pace:
    """How simulated people work: until when, how fast, and how long on an image."""

    habits: Habits
    costs: Costs
    seconds_per_image: float


@dataclass(frozen=True, slots=True)
class HeldOutMasks:
    """Every mask that a model finds on one held-out image, and how it lies on the true ones."""

    image_id: str
    generation: Generation
    overlaps: Overlaps


def require_measurable(truth: Truth, settings: EvaluationSettings) -> None:
    """Raise ValueError or OSError when an image that models and detectors are measured on cannot be read, or none that
    models are has a mask."""
    masks = [len(image.masks) for image in truth.first(2 * settings.images)]
    if not any(masks[: settings.images]):
        raise ValueError(f"{truth.name}: none of the first {settings.images} held-out images has a mask")


def find_masks(model: Model, truth: Truth, settings: EvaluationSettings) -> list[HeldOutMasks]:
    """The masks of the first held-out images, by the recipe that suits the model."""
    generator = MaskGenerator(model.load().sam, _recipe(model, settings))
    found = []
    for image in truth.first(settings.recall_images):
        generation = generator.generate(image.image)
        found.append(HeldOutMasks(image.image_id, generation, _overlaps(generation, image)))
    return found


def measure(
    model: Model,
    truth: Truth,
    settings: EvaluationSettings,
    pace: Pace,
    found: Sequence[HeldOutMasks],
    *,
    seed: int,
) -> Figures:
    """Figures of a model on the first held-out images, of which `found` holds its masks on some."""
    sam = model.load().sam
    drawn, fitting = [], []
    for image in truth.first(settings.images):
        some = image.masks.at(_some(image, settings.masks_per_image, seed))
        if not len(some):
            continue
        mine = draw(sam, look_at(sam, image.image), some, pace.habits)
        drawn.append(mine)
        fitting.append(min(len(image.masks), pace.seconds_per_image / _seconds(mine, pace).mean()))
    if not drawn:
        raise ValueError("no held-out image has a mask to measure with")
    return _figures(join(drawn), fitting, [each.overlaps for each in found], pace)


def write_held_out(
    store: Store,
    model: Model,
    found: Sequence[HeldOutMasks],
    settings: EvaluationSettings,
    *,
    round: int,
    begun: datetime,
) -> str | None:
    """The masks that a model finds on held-out images as a run of the round, for reports and SQL; its id."""
    if not found:
        return None
    results = [ImageResult(each.image_id, Status.OK, begun, begun, generation=each.generation) for each in found]
    name = recommended_recipe(model.name)
    run = run_record(
        name=f"held-out-round-{round}",
        begun=begun,
        round=round,
        model_name=model.name,
        model_sha256=model.sha256,
        recipe_name=name,
        recipe={"recipe": name, **asdict(_recipe(model, settings))},  # its name tells it from a run of generate
        kernels="fast",
    )
    return write_run(store, run, results).run_id


def _recipe(model: Model, settings: EvaluationSettings) -> Recipe:
    return replace(recipe(recommended_recipe(model.name)), points_per_side=settings.points_per_side)


def _some(image: TrueImage, count: int, seed: int) -> NDArray[np.int64]:
    """Which masks of an image are drawn; decided by the seed and the image alone."""
    order = np.random.default_rng([seed, int(image.image_id[:12], 16)]).permutation(len(image.masks))
    return np.sort(order[:count])


def _overlaps(found: Generation, image: TrueImage) -> Overlaps:
    areas = np.array([rle.area(counts) for counts in image.masks.rles], np.float64)
    return proposal_overlaps(found.masks, image.masks.rles, areas)


def _figures(drawn: Drawn, fitting: Sequence[float], overlaps: Sequence[Overlaps], pace: Pace) -> Figures:
    return Figures(
        images=len(fitting),
        masks=len(drawn),
        miou=float(drawn.first_iou.mean()),
        clicks_to_090=float(drawn.clicks.mean()),
        reached=float((drawn.brushed == 0).mean()),
        seconds_per_mask=float(_seconds(drawn, pace).mean()),
        masks_per_image=float(np.mean(fitting)),
        average_recall=_recall(overlaps),
    )


def _recall(overlaps: Sequence[Overlaps]) -> float | None:
    """None where no image that proposals were made for has a true mask."""
    average = average_recall(overlaps).all
    return None if math.isnan(average) else average


def _seconds(drawn: Drawn, pace: Pace) -> NDArray[np.float64]:
    return pace.costs.drawing(drawn.clicks, drawn.brushed)
