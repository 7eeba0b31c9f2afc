"""The promotion gate: whether a round's model takes over, and the reason in words."""

from __future__ import annotations

from workflows.rounds.config import GateSettings
from workflows.rounds.outcomes import Evaluated, Gated, Trained


def gate(trained: Trained, evaluated: Evaluated, settings: GateSettings) -> Gated:
    """Promote a model that is better on held-out images than the one before; what failed or got worse is refused."""
    if evaluated.after is None:
        return Gated(promoted=False, reason=f"no new model: {trained.failure}", trusted=True)
    before, after = evaluated.before.miou, evaluated.after.miou
    gain = after - before
    figures = f"one-click mIoU on {evaluated.after.images} held-out images {100 * before:.1f} -> {100 * after:.1f}"
    if gain >= settings.least_gain:
        return Gated(promoted=True, reason=f"{figures}, {100 * gain:+.1f} points", trusted=True)
    why = f"{figures}, {100 * gain:+.1f} points where {100 * settings.least_gain:+.1f} are asked for"
    if gain <= -settings.distrust_loss:
        why += "; the masks of this round are not trusted and left out of later ones"
        return Gated(promoted=False, reason=why, trusted=False)
    return Gated(promoted=False, reason=why, trusted=True)
