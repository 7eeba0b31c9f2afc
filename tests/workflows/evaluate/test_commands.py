"""Values that an evaluation cannot work with."""

from __future__ import annotations

import pytest

from workflows.evaluate.commands import FairnessConfig, SinglePointConfig, TextConfig


def test_refusals() -> None:
    with pytest.raises(ValueError, match="--draws is 0; it must be positive"):
        FairnessConfig(data=("x",), draws=0)
    with pytest.raises(ValueError, match="--draws is 0; it must be positive"):
        TextConfig(data=("x",), clip="c", draws=0)
    with pytest.raises(ValueError, match="--seed is -1; it must be 0 or more"):
        SinglePointConfig(data=("x",), seed=-1)
