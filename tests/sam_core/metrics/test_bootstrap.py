"""Bootstrap intervals against the textbook's for a mean."""

import numpy as np
import pytest

from sam_core.metrics.bootstrap import mean_interval


def test_independent_values_give_the_normal_interval() -> None:
    values = np.random.default_rng(0).random(2000)
    found = mean_interval(values, np.arange(2000), np.random.default_rng(1))
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.mean == values.mean()
    assert (found.mean - found.low, found.high - found.mean) == pytest.approx((half, half), rel=0.1)


def test_values_that_rise_together_give_a_wider_one() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(50), 20)
    values = rng.random(50)[clusters]
    together = mean_interval(values, clusters, np.random.default_rng(1))
    alone = mean_interval(values, np.arange(1000), np.random.default_rng(1))
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_the_same_seed_draws_the_same() -> None:
    values = np.array([0.1, 0.5, 0.9])
    one, other = (mean_interval(values, np.arange(3), np.random.default_rng(7)) for _ in range(2))
    assert one == other
    assert mean_interval(np.array([0.4]), np.zeros(1, int), np.random.default_rng(0)) == (0.4, 0.4, 0.4)


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval(np.zeros(0), np.zeros(0, int), np.random.default_rng(0))
