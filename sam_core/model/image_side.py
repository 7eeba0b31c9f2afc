"""What a mask decoder does with the image for each of many prompts: where nearly all of its work and memory go.

A two-way layer writes into the image, the next one reads it, and masks are drawn from what is left. Here is the form in
plain torch, for any device; `triton_image_side` has the same as kernels.
"""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_core.model.absorbed_attention import weights_over_tokens
from sam_core.model.upscaling import Upscaling, cells_to_rows, draw_cells


class Writing(NamedTuple):
    """What the tokens of N prompts write: H heads, T tokens, C channels (`absorbed_attention`).

    probes: [N, H * T, C], to compare with positions. offsets: [N, H * T, 1], of the scores. messages: [N, H * T, C].
    """

    probes: Tensor
    offsets: Tensor
    messages: Tensor
    heads: int


class Wanted(NamedTuple):
    """Which masks are drawn. prompts: int64 [D], those of which any is. crops: int64 [D], the crop of each.

    masks: int64 [K], ascending, which of their D * M masks.
    """

    prompts: Tensor
    crops: Tensor
    masks: Tensor


class ImageSide(Protocol):
    """The image, [B, L, C], is that of N prompts or one that N / B prompts in turn share; positions are [1, L, C]."""

    def write(self, image: Tensor, positions: Tensor, writing: Writing, norm: nn.LayerNorm) -> Tensor:
        """The image after a layer, [N, L, C]: norm(image + what the tokens write there)."""

    def read(self, image: Tensor, positions: Tensor, probes: Tensor) -> Tensor:
        """What probes [N, P, C] find in [N, L, C]: the mean of its positions, weighted by softmax of products,
        [N, P, C]."""

    def draw(
        self, image: Tensor, filters: Tensor, upscaling: Upscaling, fine: tuple[Tensor, ...], wanted: Wanted
    ) -> Tensor:
        """Logits float32 [K, 4h, 4w] of wanted masks; image [N, h * w, C] with h = w, filters [N, M, C/8].

        fine: of crops, [B, 4 L, C/4] and [B, 16 L, C/8], or ().
        """


class TorchImageSide:
    """See `ImageSide`. Sums are of float32, what is kept has the dtype of the image."""

    def write(self, image: Tensor, positions: Tensor, writing: Writing, norm: nn.LayerNorm) -> Tensor:
        """See `ImageSide`."""
        each = len(writing.probes) // len(image)
        placed = image + positions
        probes = writing.probes.to(image.dtype).view(len(image), -1, image.shape[2])
        scores = (probes @ placed.transpose(1, 2)).view(len(writing.probes), -1, image.shape[1])
        weights = weights_over_tokens(scores.float() + writing.offsets.float(), writing.heads).to(image.dtype)
        update = torch.bmm(weights.transpose(1, 2), writing.messages.to(image.dtype))
        before = image.repeat_interleave(each, dim=0) if each > 1 else image
        after = F.layer_norm(before.float() + update.float(), norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        return after.to(image.dtype)

    def read(self, image: Tensor, positions: Tensor, probes: Tensor) -> Tensor:
        """See `ImageSide`."""
        scores = torch.bmm(probes.to(image.dtype), (image + positions).transpose(1, 2))
        return torch.bmm(scores.float().softmax(-1).to(image.dtype), image)

    def draw(
        self, image: Tensor, filters: Tensor, upscaling: Upscaling, fine: tuple[Tensor, ...], wanted: Wanted
    ) -> Tensor:
        """See `ImageSide`."""
        own = tuple(level[wanted.crops] for level in fine)
        cells = draw_cells(image[wanted.prompts], filters[wanted.prompts], upscaling, own)
        side = isqrt(image.shape[1])
        return cells_to_rows(cells.flatten(0, 1)[wanted.masks].float(), (side, side))
