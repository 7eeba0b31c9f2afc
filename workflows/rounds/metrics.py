"""A round in numbers, out of the outcomes of its steps: what `rounds.metrics` and the view `round_summary` say."""

from __future__ import annotations

from collections.abc import Mapping

from workflows.rounds.config import Prices
from workflows.rounds.outcomes import Annotated, Evaluated, Figures, Generated, Prefilled, from_details


def metrics_of(details: Mapping[str, object], prices: Prices) -> dict[str, float]:
    """Every figure that the finished steps allow, by name."""
    parts = (
        _annotated(from_details(Annotated, details)),
        _prefilled(from_details(Prefilled, details)),
        _evaluated(from_details(Evaluated, details)),
        _generated(from_details(Generated, details)),
        _cost(details, prices),
    )
    return {name: value for part in parts for name, value in part.items()}


def _annotated(found: Annotated | None) -> dict[str, float]:
    if found is None or not found.images:
        return {}
    worked = {
        "clicks_per_mask": found.clicks / max(1, found.worked_on),
        "seconds_per_mask": found.drawing_seconds / max(1, found.worked_on),
    }
    return {
        "images": found.images,
        "masks": found.masks,
        "masks_per_image": found.masks / found.images,
        **(worked if found.worked_on else {}),
    }


def _prefilled(found: Prefilled | None) -> dict[str, float]:
    if found is None:
        return {}
    return {
        "prefilled": found.masks,
        "prefill_precision": found.precision,
        "prefill_recall": found.recall,
    }


def _evaluated(found: Evaluated | None) -> dict[str, float]:
    if found is None:
        return {}
    before = {f"base_{name}": value for name, value in _named(found.before).items() if name != "held_out_miou"}
    return before | {"base_miou": found.before.miou} | (_named(found.after) if found.after else {})


def _named(figures: Figures) -> dict[str, float]:
    named = {
        "held_out_miou": figures.miou,
        "clicks_to_090": figures.clicks_to_090,
        "reached_090": figures.reached,
        "held_out_seconds_per_mask": figures.seconds_per_mask,
        "held_out_masks_per_image": figures.masks_per_image,
    }
    return named | ({} if figures.average_recall is None else {"average_recall": figures.average_recall})


def _generated(found: Generated | None) -> dict[str, float]:
    if found is None or not found.images:
        return {}
    return {"images": found.images, "masks": found.masks, "masks_per_image": found.masks / found.images}


def _cost(details: Mapping[str, object], prices: Prices) -> dict[str, float]:
    """Hours and money. Machine time in which people or simulated ones annotate is not counted as machine time."""
    annotated, seconds = from_details(Annotated, details), details.get("seconds", {})
    assert isinstance(seconds, Mapping)
    human = annotated.seconds / 3600 if annotated else 0.0
    machine = sum(value for step, value in seconds.items() if step != Annotated.step) / 3600
    hours = {"human_hours": human, "machine_hours": machine}
    cost = human * prices.annotator_hour + machine * prices.machine_hour
    return hours | ({"cost": cost} if prices.annotator_hour or prices.machine_hour else {})
