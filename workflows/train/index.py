"""The index of a training source: one row per image, which says where the picture lies and either holds its masks as
COCO compressed counts or names the file that does.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from workflows.uris import ImageRef

INDEX = pa.schema(
    [
        pa.field("uris", pa.list_(pa.string())),  # where the picture lies; the first that is there is read
        pa.field("image_id", pa.string()),  # what a data set knows it by, and what its bytes must give; null elsewhere
        pa.field("masks_uri", pa.string()),  # an SA-1B JSON or a label PNG; null where `rles` holds the masks
        pa.field("height", pa.int32()),  # of the masks, px; null where the file says
        pa.field("width", pa.int32()),
        pa.field("rles", pa.list_(pa.binary())),
        pa.field("vectors", pa.list_(pa.list_(pa.binary()))),  # float16 embeddings of each mask's crops, for text
        pa.field("stamp", pa.string()),  # changes with the files that are named; null where their content is known
    ]
)


def index_row(
    uris: list[str],
    *,
    masks_uri: str | None = None,
    height: int | None = None,
    width: int | None = None,
    rles: list[bytes] | None = None,
    vectors: list[list[bytes]] | None = None,
    image_id: str | None = None,
    stamp: str | None = None,
) -> dict[str, Any]:
    """A row of INDEX; what is not given is null."""
    named = {"uris": uris, "image_id": image_id, "masks_uri": masks_uri, "stamp": stamp}
    return {**named, "height": height, "width": width, "rles": rles, "vectors": vectors}


def bare_row(reference: ImageRef) -> dict[str, Any]:
    """The row of a picture without masks."""
    return index_row([reference.uri], stamp=reference.stamp)
