"""A picture of what a data set holds, for a README: photographs above, the same with their masks below.

python -m workflows.report.picture DATASET docs/masks.jpg --images 4
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tyro
from PIL import Image as Pillow
from tyro.conf import Positional

from workflows.convert import mask_records
from workflows.report.gallery import choose, load_photo, masks_of, resized
from workflows.report.overlays import Image, overlay
from workflows.report.scope import read_runs
from workflows.sql import connect
from workflows.uris import UriReader

_GAP = 8
_WHITE = 255


def write_picture(
    dataset: Positional[str],
    out: Positional[Path],
    *,
    run: str | None = None,
    images: int = 4,
    seed: int = 0,
    width: int = 1600,
) -> None:
    """Draw some images of a data set at random, with the masks of one run.

    Args:
        dataset: a local folder or s3://bucket/prefix.
        out: the picture to write; its ending decides the format.
        run: the run, by its run_id or name; the newest with masks when not given.
        images: how many.
        seed: which ones are drawn, and their colours.
        width: of the picture, px.

    Raises:
        ValueError: one line: no data set, no masks, or an image that is no longer there.
        StoreError: one line: an image lies in a store that is at fault.
    """
    connection, reader = connect(dataset), UriReader()
    runs = [found for found in read_runs(connection, run=run) if found.masks]
    if not runs:
        raise ValueError(f"{dataset}: no masks to show")
    chosen = choose(connection, [runs[-1].run_id], images=images, seed=seed)
    masks = [masks_of(connection, [image["image_id"]], [runs[-1].run_id]) for image in chosen]
    photos = [load_photo(reader, image) for image in chosen]
    height = round((width - _GAP * (len(photos) - 1)) / sum(photo.shape[1] / photo.shape[0] for photo in photos))
    above = [resized(photo, (height, round(height * photo.shape[1] / photo.shape[0]))) for photo in photos]
    below = [
        overlay(photo, mask_records(rows), seed=seed) if len(rows) else photo
        for photo, rows in zip(above, masks, strict=True)
    ]
    Pillow.fromarray(_joined([_joined(above, axis=1), _joined(below, axis=1)], axis=0)).save(out)


def _joined(parts: list[Image], *, axis: int) -> Image:
    """Pictures beside (axis 1) or below (axis 0) each other, with a white gap."""
    shape = list(parts[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, _WHITE, np.uint8)
    return np.concatenate([piece for part in parts for piece in (gap, part)][1:], axis=axis)


if __name__ == "__main__":
    sys.exit(tyro.cli(write_picture))
