"""What a machine can do, measured."""

from itertools import count

import pytest
import torch

from sam_core.training import flops


@pytest.mark.parametrize(("seconds", "products"), [(1.5, 1), (0.5, 4)])
def test_a_rate_is_the_best_of_three_or_the_only_one_of_a_slow_machine(
    monkeypatch: pytest.MonkeyPatch, seconds: float, products: int
) -> None:
    looks: list[float] = []
    clock = count(step=seconds)
    monkeypatch.setattr(flops.time, "perf_counter", lambda: looks.append(next(clock)) or looks[-1])
    assert flops.matrix_rate("cpu", torch.float32) == 2 * 1024**3 / seconds
    assert len(looks) == 2 * products
