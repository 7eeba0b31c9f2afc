"""Random numbers of a step that follow the picture, not the batch it happens to share.

Every image has a stream of its own, keyed by the run's seed and the image's number in the run. Two workers that share
a batch therefore simulate the same prompts as one worker that holds all of it, and a resumed run the same as one that
was never stopped. Streams live on the CPU, so a GPU sees the same prompts too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sam_core.training.targets import TrainBatch

_STEP_STREAM = 0x5EED
_PRIME = 1_000_003


@dataclass(frozen=True, slots=True)
class Draws:
    """One generator per image and how many masks each image has; masks of an image lie together, in its order."""

    generators: Sequence[torch.Generator]
    counts: Sequence[int]
    device: torch.device

    def uniform(self) -> Tensor:
        """[N] float32 in [0, 1), one per mask."""
        return torch.cat([torch.rand(n, generator=g) for g, n in self._streams()]).to(self.device)

    def normal(self, width: int) -> Tensor:
        """[N, width] float32, standard normal."""
        return torch.cat([torch.randn(n, width, generator=g) for g, n in self._streams()]).to(self.device)

    def _streams(self) -> zip[tuple[torch.Generator, int]]:
        return zip(self.generators, self.counts, strict=True)


def prompt_draws(batch: TrainBatch, seed: int) -> Draws:
    """The streams of a batch's images. Raises ValueError when the masks of an image do not lie together."""
    if (batch.image_of.diff() < 0).any():
        raise ValueError("the masks of an image must lie together, in the order of the images")
    counts = torch.bincount(batch.image_of, minlength=len(batch.images)).tolist()
    generators = [stream(seed, number) for number in batch.numbers.tolist()]
    return Draws(generators, counts, batch.masks.device)


def step_stream(seed: int, step: int) -> torch.Generator:
    """The generator of what all images of a step share, such as the order of rounds."""
    return stream(seed ^ _STEP_STREAM, step)


def stream(seed: int, number: int) -> torch.Generator:
    """A generator of the CPU for the `number`-th image (or step) of a run."""
    return torch.Generator().manual_seed((seed * _PRIME + number) % 2**63)
