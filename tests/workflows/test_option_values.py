"""Options that must be above 0: which are refused, and in what words."""

from types import SimpleNamespace

import pytest

from workflows.option_values import require_positive


@pytest.mark.parametrize("value", [0, -1, 0.0, float("nan")])
def test_what_is_not_above_0_is_refused_by_its_name(value: float) -> None:
    config = SimpleNamespace(workers=None, threads=2, max_pixels=value)
    require_positive(config, "workers", "threads")
    with pytest.raises(ValueError, match=rf"^--max-pixels is {value}; it must be positive$"):
        require_positive(config, "workers", "threads", "max_pixels")
