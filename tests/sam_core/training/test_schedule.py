"""Learning rates and the order of rounds."""

import math
from collections import Counter

import pytest
import torch

from sam_core.training.schedule import LearningRate, Round, interactive_rounds


def test_the_papers_schedule() -> None:
    rate = LearningRate(base=8e-4, warmup=250, iterations=90_000, decay_at=(60_000, 86_666))
    assert rate.at(0) == pytest.approx(8e-4 / 250)
    assert rate.at(249) == rate.at(59_999) == pytest.approx(8e-4)
    assert rate.at(60_000) == pytest.approx(8e-5)
    assert rate.at(86_666) == pytest.approx(8e-6)


def test_cosine_ends_at_zero() -> None:
    rate = LearningRate(base=1.0, warmup=10, iterations=110)
    assert rate.at(60) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))
    assert rate.at(110) == pytest.approx(0.0)


def test_eleven_rounds_with_one_refinement_anywhere_and_one_last() -> None:
    generator = torch.Generator().manual_seed(0)
    places = Counter()
    for _ in range(900):
        rounds = interactive_rounds(8, generator)
        assert len(rounds) == 11
        assert rounds[0] is Round.FIRST
        assert rounds[-1] is Round.REFINE
        assert rounds.count(Round.POINT) == 8
        places[rounds.index(Round.REFINE)] += 1
    assert sorted(places) == list(range(1, 10))
    assert min(places.values()) > 60


def test_rounds_without_refinement() -> None:
    assert interactive_rounds(1, torch.Generator(), refinements=0) == (Round.FIRST, Round.POINT)
