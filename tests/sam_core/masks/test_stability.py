"""Stability scores against the released code, and the one case where that has none."""

from types import ModuleType

import torch

from sam_core.masks.stability import stability_scores


def test_scores_are_those_of_the_released_code(amg: ModuleType) -> None:
    logits = 3 * torch.randn(50, 37, 41, generator=torch.Generator().manual_seed(0))
    expected = amg.calculate_stability_score(logits, 0.0, 1.0)
    assert torch.equal(stability_scores(logits, offset=1.0), expected)


def test_score_is_a_ratio_of_areas() -> None:
    """Of ten pixels above -1, four are above +1; thresholds themselves are not above."""
    logits = torch.tensor([[[2.0] * 4 + [0.0] * 5 + [1.0, -1.0, -5.0]]])
    assert stability_scores(logits, offset=1.0).tolist() == [torch.tensor(0.4).item()]


def test_an_empty_mask_has_score_zero_where_the_released_code_has_none(amg: ModuleType) -> None:
    logits = torch.full((1, 4, 4), -9.0)
    assert amg.calculate_stability_score(logits, 0.0, 1.0).isnan().all()
    assert stability_scores(logits, offset=1.0).tolist() == [0.0]
