"""Prompts to embeddings: points, boxes and mask logits (Kirillov et al. 2023, section A, prompt encoder).

Structure and parameter names are those of `modeling/prompt_encoder.py` in the released code.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam_core.model.layers import LayerNorm2d

NOT_A_POINT, BACKGROUND, FOREGROUND, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -1, 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Prompts:
    """N prompts, at least one, for one image. Each is made of any of: P points, one box, one mask, one text.

    points: float [N, P, 2], xy, px. labels: int [N, P], 1 foreground, 0 background, -1 padding.
    boxes: float [N, 4], xyxy, px. mask_logits: float [N, 1, 4h, 4w], low-resolution logits of an earlier decode.
    text: float [N, W], CLIP embeddings of length 1, for models that take them (`SamConfig.text_width`).
    Coordinates are in the frame that the function taking them names. Raises ValueError when the parts do not fit.
    """

    points: Tensor | None = None
    labels: Tensor | None = None
    boxes: Tensor | None = None
    mask_logits: Tensor | None = None
    text: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.points is None) != (self.labels is None):
            raise ValueError("points and labels of a prompt come together; one of them is missing")
        if not self.parts:
            raise ValueError("a prompt needs points, a box, mask logits or a text; it has none")
        _check("points", self.points, (None, None, 2))
        _check("labels", self.labels, (None, None))
        _check("boxes", self.boxes, (None, 4))
        _check("mask_logits", self.mask_logits, (None, 1, None, None))
        _check("text", self.text, (None, None))
        floats = self.points, self.boxes, self.mask_logits, self.text
        if any(part is not None and not part.is_floating_point() for part in floats):
            raise ValueError("points, boxes, mask logits and text embeddings of a prompt are floating-point tensors")
        if self.points is not None and self.labels is not None and self.labels.shape != self.points.shape[:2]:
            raise ValueError(f"{tuple(self.points.shape)} points need labels of shape {tuple(self.points.shape[:2])}")
        if len({len(part) for part in self.parts}) > 1:
            raise ValueError(f"parts of the prompts differ in number: {[len(part) for part in self.parts]}")
        if len(self) == 0:
            raise ValueError("there are no prompts to decode")

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def parts(self) -> list[Tensor]:
        """The tensors that are given."""
        return [p for p in (self.points, self.labels, self.boxes, self.mask_logits, self.text) if p is not None]


class PromptEmbeddings(NamedTuple):
    """sparse: [N, T, C], one token per point and box corner. dense: [N, C, h, w], or [1, C, 1, 1] without masks."""

    sparse: Tensor
    dense: Tensor


class FourierPositions(nn.Module):
    """Random Fourier features of positions (Tancik et al. 2020), the matrix being part of the model."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """Positions [..., 2], xy as fractions of the model input -> [..., dim]."""
        matrix = self.positional_encoding_gaussian_matrix
        x, y = (2 * xy.to(matrix.dtype) - 1).unsqueeze(-2).unbind(-1)
        # Not a matrix product, which autocast would round to half precision.
        angle = 2 * math.pi * (x * matrix[0] + y * matrix[1])
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """grid: patches along one side of the model input. image_size: that side in px."""

    def __init__(self, dim: int, *, grid: int, image_size: int) -> None:
        super().__init__()
        self.grid, self.image_size = grid, image_size
        self.pe_layer = FourierPositions(dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def forward(self, prompts: Prompts) -> PromptEmbeddings:
        """Embeddings of `prompts`, whose coordinates are in the frame of the model input.

        As in the released code, tokens of points come before those of box corners, and points without a box are
        followed by one padding point. A text is not looked at (`Sam.with_text` adds its token), but asks for that
        padding point as points do.
        """
        points, labels = _as_points(prompts)
        return self.embed(points, labels, prompts.mask_logits)

    def embed(self, points: Tensor, labels: Tensor, mask_logits: Tensor | None) -> PromptEmbeddings:
        """Embeddings of points and nothing added to them, so that prompts with and without a box can share a batch.

        points: [N, P, 2], xy, px of the model input. labels: int [N, P], as in `Prompts`, and 2 and 3 for the top left
        and the bottom right corner of a box. mask_logits: [N, 1, 4h, 4w].
        """
        return PromptEmbeddings(self._embed_points(points, labels), self._embed_masks(mask_logits))

    def dense_positions(self) -> Tensor:
        """Positions of the patch centres: [1, C, h, w]."""
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        centre = (torch.arange(self.grid, device=matrix.device, dtype=matrix.dtype) + 0.5) / self.grid
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        positions: Tensor = self.pe_layer(torch.stack([x, y], dim=-1))
        return positions.permute(2, 0, 1)[None]

    def _embed_points(self, points: Tensor, labels: Tensor) -> Tensor:
        positions: Tensor = self.pe_layer((points + 0.5) / self.image_size)
        kinds = torch.cat([embedding.weight for embedding in (self.not_a_point_embed, *self.point_embeddings)])
        return positions.where((labels != NOT_A_POINT)[..., None], 0) + kinds[labels.long() + 1]

    def _embed_masks(self, mask_logits: Tensor | None) -> Tensor:
        if mask_logits is None:
            return self.no_mask_embed.weight[..., None, None]
        out: Tensor = self.mask_downscaling(mask_logits)
        return out


def _as_points(prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Points, padding and box corners of each prompt: [N, T, 2], and their labels [N, T]."""
    like = prompts.parts[0]
    points = [like.new_empty(len(prompts), 0, 2)]
    labels = [like.new_empty(len(prompts), 0, dtype=torch.int64)]
    if prompts.points is not None and prompts.labels is not None:
        points.append(prompts.points)
        labels.append(prompts.labels)
    if prompts.boxes is None and (prompts.points is not None or prompts.text is not None):
        points.append(like.new_zeros(len(prompts), 1, 2))
        labels.append(labels[0].new_full((len(prompts), 1), NOT_A_POINT))
    if prompts.boxes is not None:
        points.append(prompts.boxes.view(-1, 2, 2))
        labels.append(labels[0].new_tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]).expand(len(prompts), 2))
    return torch.cat(points, dim=1), torch.cat(labels, dim=1)


def _check(name: str, part: Tensor | None, shape: tuple[int | None, ...]) -> None:
    if part is None:
        return
    if not isinstance(part, Tensor):
        raise ValueError(f"{name} of a prompt are a tensor, not {type(part).__name__}; torch.as_tensor makes one")
    fits = part.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, part.shape, strict=True))
    if not fits:
        wanted = ", ".join("*" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} of a prompt must have shape [{wanted}], not {list(part.shape)}")
