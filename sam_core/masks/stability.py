"""Stability score: how little a mask changes when the threshold on its logits moves (paper, appendix B)."""

import torch
from torch import Tensor


def stability_scores(logits: Tensor, *, offset: float) -> Tensor:
    """float32 [N]: IoU of the masks at +offset and at -offset, for logits [N, H, W] at the crop's own resolution.

    The mask at +offset lies inside the one at -offset, so the IoU is the ratio of their areas. Where both are empty
    there is nothing to be stable: the score is 0, and any positive threshold drops the mask. (The released
    `calculate_stability_score` divides zero by zero there; its NaN drops the mask as well.)
    """
    inner = torch.count_nonzero(logits > offset, dim=(1, 2))
    outer = torch.count_nonzero(logits > -offset, dim=(1, 2))
    return inner / outer.clamp(min=1)
