"""A round in numbers, by hand."""

from __future__ import annotations

import pytest

from workflows.rounds.config import Prices
from workflows.rounds.metrics import metrics_of
from workflows.rounds.outcomes import Annotated, Evaluated, Figures, Generated, Prefilled, to_details

ANNOTATED = Annotated(
    images=4, masks=30, kept=9, deleted=2, worked_on=20, clicks=50, drawing_seconds=400.0, seconds=900.0
)
PREFILLED = Prefilled(run_id="p", threshold=0.5, precision=0.9, recall=0.4, held_out_masks=7, images=4, masks=11)


def figures(share: float, recall: float | None) -> Figures:
    return Figures(
        images=7,
        masks=50,
        miou=share,
        clicks_to_090=10 * share,
        reached=share / 2,
        seconds_per_mask=20 * share,
        masks_per_image=30 * share,
        average_recall=recall,
    )


def test_all_steps_of_a_round() -> None:
    evaluated = Evaluated(before=figures(0.5, None), after=figures(0.6, 0.3), run_id=None)
    details = {step.step: to_details(step) for step in (ANNOTATED, PREFILLED, evaluated)}
    found = metrics_of(details | {"seconds": {"train": 3600.0, "evaluate": 1800.0, "annotate": 7200.0}}, Prices())
    assert found == pytest.approx(
        {
            "images": 4,
            "masks": 30,
            "masks_per_image": 7.5,
            "clicks_per_mask": 2.5,
            "seconds_per_mask": 20.0,
            "prefilled": 11,
            "prefill_precision": 0.9,
            "prefill_recall": 0.4,
            "base_miou": 0.5,
            "base_clicks_to_090": 5.0,
            "base_reached_090": 0.25,
            "base_held_out_seconds_per_mask": 10.0,
            "base_held_out_masks_per_image": 15.0,
            "held_out_miou": 0.6,
            "clicks_to_090": 6.0,
            "reached_090": 0.3,
            "held_out_seconds_per_mask": 12.0,
            "held_out_masks_per_image": 18.0,
            "average_recall": 0.3,
            "human_hours": 0.25,
            "machine_hours": 1.5,
        }
    )


def test_cost_is_of_people_and_of_machines() -> None:
    details = {"annotate": to_details(ANNOTATED), "seconds": {"train": 3600.0, "annotate": 7200.0}}
    assert metrics_of(details, Prices(annotator_hour=20, machine_hour=3))["cost"] == 0.25 * 20 + 1 * 3
    assert metrics_of(details, Prices(machine_hour=3))["cost"] == 3


def test_a_round_whose_images_were_all_skipped_has_no_figures_of_masks() -> None:
    nothing = Annotated(images=0, masks=0, kept=0, deleted=0, worked_on=0, clicks=0, drawing_seconds=0.0, seconds=36.0)
    generated = Generated(run_id="r", images=0, masks=0)
    details = {step.step: to_details(step) for step in (nothing, generated)}
    assert metrics_of(details, Prices()) == pytest.approx({"human_hours": 0.01, "machine_hours": 0.0})


def test_a_round_without_people() -> None:
    generated = Generated(run_id="r", images=8, masks=20)
    found = metrics_of({"generate": to_details(generated), "seconds": {"generate": 360.0}}, Prices())
    assert found == pytest.approx(
        {"images": 8, "masks": 20, "masks_per_image": 2.5, "human_hours": 0.0, "machine_hours": 0.1}
    )
