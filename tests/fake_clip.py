"""A CLIP without weights: words are directions drawn by their hash, and a crop says the name of its colour."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam_core.clip import TextEmbeddings

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


@dataclass(frozen=True, slots=True)
class FakeClip:
    """A text is the sum of its words, `context` less two at most; a crop is the word for its mean colour inside."""

    width: int = 16
    context: int = 8
    image_size: int = 12
    name: str = "fake"
    sha256: str = "fa" * 32

    def embed_images(self, crops: Tensor, inside: Tensor | None = None) -> Tensor:
        """See Clip."""
        seen = torch.ones_like(crops[:, 0], dtype=torch.bool) if inside is None else inside
        names = [
            _name(crop[:, mask] if mask.any() else crop.flatten(1)) for crop, mask in zip(crops, seen, strict=True)
        ]
        return torch.stack([self._direction(name) for name in names]) if names else torch.zeros(0, self.width)

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """See Clip."""
        words = [re.findall(r"\w+", text.lower()) for text in texts]
        if not all(words):
            raise ValueError("an empty text")
        most = self.context - 2
        sums = [torch.stack([self._direction(word) for word in each[:most]]).sum(0) for each in words]
        return TextEmbeddings(F.normalize(torch.stack(sums), dim=-1), tuple(len(each) > most for each in words))

    def _direction(self, word: str) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
        drawn = np.random.default_rng(seed).normal(size=self.width).astype(np.float32)
        return F.normalize(torch.from_numpy(drawn), dim=0)


@dataclass(frozen=True, slots=True)
class FakeSource:
    """Stands for files with a FakeClip in them; can be pickled."""

    sha256: str = FakeClip().sha256
    clip_id: str = "fake-fafafafafafa"

    def load(self, *, device: str = "cpu") -> FakeClip:
        """See ClipSource."""
        return FakeClip()


def _name(pixels: Tensor) -> str:
    """The colour nearest to the mean of pixels [3, P] in 0..1."""
    mean = 255 * pixels.mean(1)
    return min(COLOURS, key=lambda name: float((mean - torch.tensor(COLOURS[name])).abs().sum()))
