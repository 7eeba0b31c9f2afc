"""Pictures with transparency as things that procedural scenes are made with."""

from __future__ import annotations

from functools import lru_cache, partial

import pyarrow as pa

from sam_core.scenes import CutOut, cut_out
from workflows.images import ImageError, decode_with_alpha
from workflows.sources import UriReader

KEPT = 2048
"""Things that are kept; a scene takes about five, and decoding them takes as long as all else."""


class CutOutPictures:
    """The pictures of a source's index, read when they are asked for; `sam_core.scenes.CutOuts`."""

    def __init__(self, name: str, index: pa.Table, uris: UriReader) -> None:
        self._name, self._index = name, index
        self._read = lru_cache(maxsize=KEPT)(partial(read_cutout, uris))

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> CutOut | None:
        uri = str(self._index["uris"][number][0].as_py())
        try:
            return self._read(uri)
        except FileNotFoundError as error:
            raise ValueError(f"{self._name}: {uri} is not there any more") from error


def read_cutout(uris: UriReader, uri: str) -> CutOut | None:
    """The thing on a picture; None where it is not one solid thing, or nothing that can be decoded.

    Collections of drawings hold a few that are damaged or hundreds of megapixels large. Raises OSError.
    """
    data = uris.read(uri)
    try:
        rgba = decode_with_alpha(data)
    except ImageError:
        return None
    return cut_out(rgba[..., :3], rgba[..., 3])
