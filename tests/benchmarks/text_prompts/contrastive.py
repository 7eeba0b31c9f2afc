"""How CLIP learns (Radford et al. 2021, section 2.3): each crop is told from the texts of others, and each text too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor | float, also: Tensor | None = None) -> Tensor:
    """Cross-entropy of picking the right partner among N, mean of both directions; scalar.

    Args:
        images, texts: [N, W] unit vectors, row i of one belonging to row i of the other.
        scale: factor on the cosines.
        also: bool [N, N], [i, j] true where text j is true of crop i too, which is then no wrong answer.
    """
    logits = scale * images @ texts.T
    right = torch.arange(len(logits), device=logits.device)
    if also is not None:
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(also & ~own, -torch.inf)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def mean_gap(images: Tensor, texts: Tensor) -> Tensor:
    """Squared distance between the means of both [N, W]; scalar.

    A contrastive loss alone leaves pictures and texts in two cones (Liang et al. 2022, "Mind the gap"), and what was
    trained on the ones does not know the others.
    """
    return (images.mean(0) - texts.mean(0)).square().sum()


@torch.no_grad()
def retrieval(images: Tensor, texts: Tensor, also: Tensor | None = None) -> float:
    """Share of texts [N, W] whose nearest crop [N, W] is their own, or one of which they are true too."""
    nearest = (texts @ images.T).argmax(1)
    each = torch.arange(len(nearest), device=nearest.device)
    right = nearest == each
    return float((right if also is None else right | also[nearest, each]).float().mean())
