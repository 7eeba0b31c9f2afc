"""The promotion gate: whether a round's model takes over, and the reason in words."""

from __future__ import annotations

from workflows.rounds.config import GateSettings
from workflows.rounds.outcomes import Evaluated, Gated, Trained

_MOST_DIGITS = 6


def gate(trained: Trained, evaluated: Evaluated, settings: GateSettings) -> Gated:
    """Promote a model that is better on held-out images than the one before; what failed or got worse is refused."""
    if evaluated.after is None:
        return Gated(promoted=False, reason=f"no new model: {trained.failure}", trusted=True)
    before, after = evaluated.before.miou, evaluated.after.miou
    gain, least = after - before, settings.least_gain
    digits = _digits(gain, least)
    shown = f"{100 * before:.{digits}f} -> {100 * after:.{digits}f}, {_points(gain, digits)} points"
    figures = f"one-click mIoU on {evaluated.after.images} held-out images {shown}"
    if gain >= least:
        return Gated(promoted=True, reason=figures, trusted=True)
    why = f"{figures} where {_points(least, digits)} are asked for"
    if gain <= -settings.distrust_loss:
        why += "; the masks of this round are not trusted and left out of later ones"
        return Gated(promoted=False, reason=why, trusted=False)
    return Gated(promoted=False, reason=why, trusted=True)


def _digits(gain: float, least: float) -> int:
    """Decimals of points that the reason shows: one, or more where the gain would look like none, or like the one that
    is asked for, and is neither."""
    for digits in range(1, _MOST_DIGITS):
        if all(gain == other or _points(gain, digits) != _points(other, digits) for other in (0.0, least)):
            return digits
    return _MOST_DIGITS


def _points(share: float, digits: int) -> str:
    return f"{100 * share:+z.{digits}f}"
