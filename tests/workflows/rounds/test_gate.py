"""The promotion gate: better models pass, others are refused with the reason in words."""

from __future__ import annotations

import pytest

from workflows.rounds.config import GateSettings
from workflows.rounds.gate import gate
from workflows.rounds.outcomes import Evaluated, Figures, Trained


def figures(miou: float) -> Figures:
    return Figures(
        images=7,
        masks=50,
        miou=miou,
        clicks_to_090=5.0,
        reached=0.5,
        seconds_per_mask=20.0,
        masks_per_image=9.0,
        average_recall=None,
    )


def measured(before: float, after: float) -> Evaluated:
    return Evaluated(before=figures(before), after=figures(after), run_id=None)


@pytest.mark.parametrize(
    ("before", "after", "least", "promoted", "trusted", "words"),
    [
        (0.5, 0.6, 0.0, True, True, "50.0 -> 60.0, +10.0 points"),
        (0.5, 0.5, 0.0, True, True, "+0.0 points"),
        (0.5, 0.49, 0.0, False, True, "-1.0 points where +0.0 are asked for"),
        (0.5, 0.49, -0.02, True, True, "-1.0 points"),
        (0.5, 0.51, 0.02, False, True, "where +2.0 are asked for"),
        (0.5, 0.4376, 0.0, False, True, "where +0.0 are asked for"),
        (0.5, 0.43, 0.0, False, False, "not trusted and left out"),
        (0.5, 0.4375, 0.0, False, False, "not trusted and left out"),
        (0.5, 0.4996, 0.0, False, True, "50.00 -> 49.96, -0.04 points where +0.00 are asked for"),
        (0.5, 0.509996, 0.01, False, True, "50.0000 -> 50.9996, +0.9996 points where +1.0000 are asked for"),
        (0.5, 0.49999, -0.01, True, True, "50.000 -> 49.999, -0.001 points"),
        (0.5, 0.49, -0.0, False, True, "where +0.0 are asked for"),
    ],
)
def test_verdicts(before: float, after: float, least: float, promoted: bool, trusted: bool, words: str) -> None:
    found = gate(Trained(model_id="m"), measured(before, after), GateSettings(least_gain=least, distrust_loss=0.0625))
    assert (found.promoted, found.trusted) == (promoted, trusted)
    assert words in found.reason
    assert "7 held-out images" in found.reason


def test_no_model_is_not_promoted() -> None:
    found = gate(
        Trained(failure="the file is damaged"),
        Evaluated(before=figures(0.5), after=None, run_id=None),
        GateSettings(),
    )
    assert (found.promoted, found.trusted) == (False, True)
    assert found.reason == "no new model: the file is damaged"
