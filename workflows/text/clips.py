"""Which CLIP a job uses: found and read once where the command runs, loaded again where the work is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sam_core.clip import Clip, require_clip
from sam_core.clip_transformers import ClipError, load_clip
from sam_core.model.checkpoint import LoadedModel

_ID_DIGITS = 12


class ClipSource(Protocol):
    """What a worker is handed instead of a CLIP: small, can be pickled, and loads the real thing where it is."""

    @property
    def sha256(self) -> str:
        """Of the weights, in hexadecimal."""

    @property
    def clip_id(self) -> str:
        """Name and first digits of the hash, as tables have it."""

    def load(self, *, device: str = "cpu") -> Clip:
        """The CLIP. Raises ValueError (one line) when it is missing or another one."""


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """A CLIP that was read and found whole: name and SHA-256, and the folder where it lies."""

    folder: str
    name: str
    sha256: str

    @property
    def clip_id(self) -> str:
        """See ClipSource."""
        return clip_id(self.name, self.sha256)

    def load(self, *, device: str = "cpu") -> Clip:
        """See ClipSource."""
        clip = load_clip(self.folder, device=device)
        if clip.sha256 != self.sha256:
            raise ClipError(f"{self.folder} on this machine is not the CLIP that the work began with")
        return clip


def clip_id(name: str, sha256: str) -> str:
    """Name of a CLIP, which is that of its folder and may be any, and the first digits of its hash."""
    return f"{name}-{sha256[:_ID_DIGITS]}"


def find_clip(folder: str, model: LoadedModel | None = None) -> ClipFiles:
    """Find a CLIP and read it once, so that a broken one shows before any work.

    Raises ValueError (one line) when there is none, or it is not the one that the model, if any, was trained with.
    """
    clip = load_clip(folder) if model is None else open_clip(folder, model)
    return ClipFiles(str(Path(folder).absolute()), clip.name, clip.sha256)


def open_clip(folder: str, model: LoadedModel) -> Clip:
    """The CLIP that a model was trained with.

    Raises ValueError (one line) when the model takes no text, there is no CLIP, or it is another one.
    """
    clip = load_clip(folder)
    require_clip(model.sam.config, model.metadata, clip)
    return clip


def cut_off(text: str, context: int) -> str:
    """What people are told about a text that was truncated."""
    shown = text if len(text) <= 40 else f"{text[:37]}..."
    return f"{shown!r} is longer than the {context} tokens that this CLIP reads; its end was left out"
