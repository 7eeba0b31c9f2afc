"""Values that an evaluation cannot work with."""

from __future__ import annotations

import math

import pytest

from workflows.evaluate.commands import (
    EdgesConfig,
    FairnessConfig,
    ProposalsConfig,
    SinglePointConfig,
    TaskConfig,
    TextConfig,
)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="--draws is 0; it must be positive"):
        FairnessConfig(data=("x",), draws=0)
    with pytest.raises(ValueError, match="--draws is 0; it must be positive"):
        TextConfig(data=("x",), clip="c", draws=0)
    with pytest.raises(ValueError, match="--seed is -1; it must be between 0 and"):
        SinglePointConfig(data=("x",), seed=-1)


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (SinglePointConfig, "masks_per_image", -1),
        (SinglePointConfig, "most_masks", -5),
        (SinglePointConfig, "enough_masks", 0),
        (EdgesConfig, "thresholds", 0),
        (EdgesConfig, "points_per_side", 0),
        (ProposalsConfig, "proposals", -1),
        (ProposalsConfig, "points_per_side", 0),
    ],
)
def test_numbers_that_would_drop_truth_are_refused(config: type[TaskConfig], name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is {value}; it must be positive"):
        config(data=("x",), **{name: value})


@pytest.mark.parametrize("config", [SinglePointConfig, FairnessConfig])
def test_a_least_area_is_a_number_of_px(config: type[TaskConfig]) -> None:
    for area in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"--least-area is {area}; it must be 0 or more"):
            config(data=("x",), least_area=area)
