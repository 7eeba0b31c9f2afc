"""What this package asks of CLIP (Radford et al. 2021): crops and texts as unit vectors of one space.

A model that takes text prompts is trained with the CLIP embedding of each mask's crop in the place of a text (Kirillov
et al. 2023, sections 7.5 and D.5), and is given the CLIP embedding of a text when it is used. Hence it belongs to one
CLIP, which its checkpoint names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sam_core.presets import SamConfig

CLIP_NAME, CLIP_SHA256 = "clip_name", "clip_sha256"
"""Keys of a checkpoint's metadata: the CLIP that its text prompts belong to."""


@dataclass(frozen=True, slots=True)
class TextEmbeddings:
    """vectors: [N, width] float32, rows of length 1. truncated: texts that were cut to what the model reads."""

    vectors: Tensor
    truncated: tuple[bool, ...]


class Clip(Protocol):
    """One CLIP, ready for use.

    width: size of an embedding. context: most tokens of a text, its first and last mark among them. image_size: side of
    a crop, px. name: for people. sha256: of the weights, in hexadecimal.
    """

    @property
    def width(self) -> int: ...

    @property
    def context(self) -> int: ...

    @property
    def image_size(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def embed_images(self, crops: Tensor, inside: Tensor | None = None) -> Tensor:
        """Crops [N, 3, S, S] float32 RGB in 0..1 -> [N, width] float32, rows of length 1.

        inside: bool [N, S, S]; in the last layer the output sees only patches that hold a true pixel, and itself. A
        crop without any sees all of them.
        """

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Raises ValueError when a text is empty."""


def clip_metadata(name: str, sha256: str) -> dict[str, str]:
    """What a checkpoint says about the CLIP that its text prompts belong to."""
    return {CLIP_NAME: name, CLIP_SHA256: sha256}


def require_clip(config: SamConfig, metadata: Mapping[str, str], clip: Clip) -> None:
    """Raises ValueError, one line, when a model takes no text prompts, or those of another CLIP.

    metadata: of the model's checkpoint.
    """
    if not config.text_width:
        raise ValueError(f"{config.name} takes no text prompts; train one that does with --preset text")
    if clip.width != config.text_width:
        raise ValueError(
            f"{config.name} takes embeddings of width {config.text_width}, those of {clip.name} have {clip.width}"
        )
    wanted = metadata.get(CLIP_SHA256, clip.sha256)
    if wanted != clip.sha256:
        raise ValueError(
            f"{config.name} belongs to the CLIP {metadata.get(CLIP_NAME, '?')} with the hash {wanted[:12]}, not to "
            f"{clip.name} with {clip.sha256[:12]}"
        )
