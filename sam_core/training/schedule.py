"""Learning-rate schedules and the order of interactive rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch


@dataclass(frozen=True, slots=True)
class LearningRate:
    """Linear warm-up, then steps (the paper: x0.1 at two iterations) or a cosine to zero.

    `decay_at` are iterations; an empty tuple means cosine.
    """

    base: float
    warmup: int
    iterations: int
    decay_at: tuple[int, ...] = ()
    decay: float = 0.1

    def at(self, iteration: int) -> float:
        """Learning rate of a 0-based iteration."""
        warm = min(1.0, (iteration + 1) / max(1, self.warmup))
        if self.decay_at:
            return self.base * warm * self.decay ** sum(iteration >= step for step in self.decay_at)
        progress = max(0, iteration - self.warmup) / max(1, self.iterations - self.warmup)
        return self.base * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Round(StrEnum):
    """What a round of prompt simulation adds."""

    FIRST = "first"  # a point or a noised box
    POINT = "point"  # one point in the error region, with the previous logits
    REFINE = "refine"  # nothing but the previous logits


def interactive_rounds(points: int, generator: torch.Generator, *, refinements: int = 2) -> tuple[Round, ...]:
    """The paper's order: first prompt, `points` corrections, one refinement at a random place among them and one last.

    Args:
        points: correction rounds (the paper's 8; its stage-3 model 3).
        generator: draws the place of the inner refinement.
        refinements: 2 as in the paper, 1 keeps only the last, 0 none.
    """
    rounds = [Round.FIRST] + [Round.POINT] * points
    if refinements > 1:
        place = int(torch.randint(1, len(rounds) + 1, (), generator=generator))
        rounds.insert(place, Round.REFINE)
    return (*rounds, Round.REFINE) if refinements else tuple(rounds)
