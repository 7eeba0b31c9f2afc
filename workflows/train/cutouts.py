"""Pictures with transparency as things that procedural scenes are made with."""

from __future__ import annotations

from functools import lru_cache, partial

import pyarrow as pa

from sam_core.scenes import CutOut, cut_out
from workflows.images import ImageError, decode_with_alpha
from workflows.train.left_out import LeftOut, UnreadableError, blamed_on
from workflows.uris import UriReader

KEPT = 2048
"""Things that are kept; a scene takes about five, and decoding them takes as long as all else."""


class CutOutPictures:
    """The pictures of a source's index, read when they are asked for; `sam_core.scenes.CutOuts`.

    What cannot be read is noted in `left_out`, and no thing.
    """

    def __init__(self, name: str, index: pa.Table, uris: UriReader, left_out: LeftOut) -> None:
        self._name, self._index, self._left_out = name, index, left_out
        self._read = lru_cache(maxsize=KEPT)(partial(read_cutout, uris))

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> CutOut | None:
        thing, failure = None, None
        try:
            thing = self._read(str(self._index["uris"][number][0].as_py()))
        except UnreadableError as error:
            failure = error
        self._left_out.note(self._name, failure)
        return thing


def read_cutout(uris: UriReader, uri: str) -> CutOut | None:
    """The thing on a picture; None where it is not one solid thing, or nothing that can be decoded.

    Collections of drawings hold a few that are damaged or hundreds of megapixels large. Raises UnreadableError for a
    file that cannot be read at all, and OSError where its store fails.
    """
    with blamed_on(uri):
        data = uris.read(uri)
    try:
        rgba = decode_with_alpha(data)
    except ImageError:
        return None
    return cut_out(rgba[..., :3], rgba[..., 3])
