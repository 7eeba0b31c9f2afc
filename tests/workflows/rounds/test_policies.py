"""Queue policies as pure functions."""

from __future__ import annotations

import numpy as np
import pytest

from workflows.rounds.policies import Candidates, choose, farthest_first, random_order

IMAGES = [f"{index:032x}" for index in range(20)]


def candidates(**known: np.ndarray) -> Candidates:
    zeros = np.zeros(len(IMAGES))
    values = {"covered": zeros, "uncertainty": zeros, "features": np.zeros((20, 2), np.float32)}
    return Candidates(IMAGES, **(values | {"done": np.zeros((0, 2), np.float32)} | known))


def test_random_depends_on_image_and_seed_alone() -> None:
    first = [IMAGES[i] for i in choose("random", candidates(), 5, seed=1)]
    assert first == [IMAGES[i] for i in random_order(IMAGES, seed=1)[:5]]
    turned = IMAGES[::-1]
    assert first == [turned[i] for i in random_order(turned, seed=1)[:5]]
    assert first != [IMAGES[i] for i in choose("random", candidates(), 5, seed=2)]
    assert len(choose("random", candidates(), 99, seed=1)) == 20


def test_the_least_covered_and_the_most_uncertain_come_first() -> None:
    values = np.random.default_rng(0).permutation(20) / 20
    for policy, name, order in (("least_covered", "covered", values), ("most_uncertain", "uncertainty", -values)):
        chosen = choose(policy, candidates(**{name: values}), 6, seed=0)
        assert chosen.tolist() == np.argsort(order)[:6].tolist()
    tied = choose("least_covered", candidates(covered=np.full(20, 0.5)), 20, seed=3)
    assert tied.tolist() == random_order(IMAGES, seed=3).tolist()


def test_the_most_diverse_are_far_from_what_is_done_and_from_each_other() -> None:
    places = np.array([[0, 0], [0.1, 0], [9, 0], [9, 9], [0, 9], [5, 5]], np.float32)
    assert farthest_first(places, places[:1], 3).tolist() == [3, 2, 4]
    assert set(farthest_first(places, np.zeros((0, 2), np.float32), 4).tolist()) in ({0, 2, 3, 4}, {1, 2, 3, 4})
    assert sorted(farthest_first(places, places[:1], 99).tolist()) == list(range(6))
    assert len(farthest_first(places[:0], places, 3)) == 0
    features = np.zeros((20, 2), np.float32)
    features[13] = 7
    assert choose("most_diverse", candidates(features=features, done=features[:1]), 1, seed=0).tolist() == [13]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="no policy is called 'best'"):
        choose("best", candidates(), 1, seed=0)
