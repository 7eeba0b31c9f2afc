"""Pictures with transparency as things that procedural scenes are made with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from sam_core.scenes import CutOut, cut_out
from workflows.images import ImageError, decode_with_alpha
from workflows.sources import UriReader


@dataclass(frozen=True, slots=True)
class CutOutPictures:
    """The pictures of a source's index, read when they are asked for; `sam_core.scenes.CutOuts`."""

    name: str
    index: pa.Table

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> CutOut | None:
        uri = str(self.index["uris"][number][0].as_py())
        try:
            return read_cutout(uri)
        except FileNotFoundError as error:
            raise ValueError(f"{self.name}: {uri} is not there any more") from error


@lru_cache(maxsize=1024)  # a scene takes five; decoding them takes twice as long as all else
def read_cutout(uri: str) -> CutOut | None:
    """The thing on a picture; None where it is not one solid thing, or nothing that can be decoded.

    Collections of drawings hold a few that are damaged or hundreds of megapixels large. Raises OSError.
    """
    data = UriReader().read(uri)
    try:
        rgba = decode_with_alpha(data)
    except ImageError:
        return None
    return cut_out(rgba[..., :3], rgba[..., 3])
