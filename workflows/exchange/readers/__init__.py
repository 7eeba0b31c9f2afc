"""One file per format that masks are imported from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from schemas.coco import Origin
from workflows.uris import ImageRef


@dataclass(frozen=True, slots=True)
class IncomingMask:
    """One mask as its source states it.

    key      what names the mask in its source
    rle      COCO compressed counts over the whole image
    origin   stage, annotator and scores; None where the source says nothing
    details  whatever else it says, such as `category`; values are JSON
    """

    key: str
    rle: bytes
    origin: Origin = field(default_factory=Origin)
    details: Mapping[str, object] = field(default_factory=dict)
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IncomingImage:
    """What a source says of one image: height and width of its masks, px, a line for each mask left out, and whether
    these are all that there is on it: annotation tools also list images that nobody has come to yet."""

    height: int
    width: int
    masks: tuple[IncomingMask, ...]
    refused: tuple[str, ...] = ()
    is_all: bool = False


def merged(found: Sequence[IncomingImage]) -> IncomingImage:
    """What several entries or places say of one picture, together. Raises ValueError when they disagree on its size."""
    if len({(image.height, image.width) for image in found if image.masks}) > 1:
        raise ValueError("the same picture is stated to be of several sizes")
    first = max(found, key=lambda image: len(image.masks))
    masks = tuple(mask for image in found for mask in image.masks)
    refused = tuple(line for image in found for line in image.refused)
    return IncomingImage(first.height, first.width, masks, refused, all(image.is_all for image in found))


class IncomingSource(Protocol):
    """Masks of others. `automatic` says whether any mask may be of the automatic stage, `digest` (hexadecimal) what the
    source holds, `lost`, once its pictures are listed, in lines which of its masks have none."""

    name: str
    kind: str
    digest: str
    automatic: bool

    @property
    def lost(self) -> Sequence[str]: ...

    def references(self) -> Iterator[ImageRef]:
        """The pictures that the source has masks for."""

    def load(self, uri: str) -> IncomingImage:
        """The masks of a picture. Raises ValueError or OSError (one line) when none of them can be used."""
