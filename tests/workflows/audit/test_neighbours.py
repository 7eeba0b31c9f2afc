from __future__ import annotations

import numpy as np

from workflows.audit.neighbours import pairs_until


def test_pairs_are_those_of_a_double_loop() -> None:
    values = np.sort(np.random.default_rng(0).integers(0, 40, 30))
    ends = np.searchsorted(values, values + 2, side="right")
    one, other = pairs_until(ends)
    expected = [(a, b) for a in range(30) for b in range(a + 1, 30) if values[b] - values[a] <= 2]
    assert list(zip(one.tolist(), other.tolist(), strict=True)) == expected
    assert [len(part) for part in pairs_until(np.arange(1, 4))] == [0, 0]
