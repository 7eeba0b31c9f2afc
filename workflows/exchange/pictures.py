"""Pictures as every reader shows them: the bytes as they are where they are upright JPEG or PNG, else a PNG.

Masks lie on the upright image. Most readers of COCO and SA-1B do not turn a picture as its EXIF says, so one that needs
turning is written turned.
"""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image

from workflows.exchange.selection import ExportImage
from workflows.images import ImageError, decode, read_header
from workflows.originals import read_original
from workflows.uris import UriReader

_AS_THEY_ARE = {"jpeg": ".jpg", "png": ".png"}


class Picture(NamedTuple):
    """A picture to be written: its bytes, and the ending of its name."""

    data: bytes
    suffix: str


def suffix_of(image: ExportImage, reader: UriReader, *, max_pixels: int) -> str:
    """The ending that the picture's name will have; only where the data set does not know its format is it read."""
    if image.format is None:
        return read_picture(image, reader, max_pixels=max_pixels).suffix
    return _suffix(image.format, image.orientation or 1)


def read_picture(image: ExportImage, reader: UriReader, *, max_pixels: int) -> Picture:
    """The picture from the first of its places that still has it.

    Raises ImageError (one line) when it is at none of them any more, has changed, or cannot be decoded, and StoreError.
    """
    data = read_original(reader, image.uris, image.image_id)
    try:
        header = read_header(data, max_pixels=max_pixels)
        if (header.height, header.width) != (image.height, image.width):
            sizes = f"is {header.width}x{header.height} px, its masks {image.width}x{image.height} px"
            raise ImageError("Changed", sizes)
        suffix = _suffix(header.format, header.orientation)
        if header.orientation == 1 and header.format in _AS_THEY_ARE:
            return Picture(data, suffix)
        buffer = io.BytesIO()
        Image.fromarray(decode(data, max_pixels=max_pixels)).save(buffer, "png", compress_level=1)
        return Picture(buffer.getvalue(), suffix)
    except ImageError as error:
        raise ImageError(error.kind, f"{image.uris[0]}: {error}") from error


def is_redrawn(image: ExportImage) -> bool:
    """Whether the picture is unpacked and written anew, as far as the data set knows."""
    return image.format not in _AS_THEY_ARE or (image.orientation or 1) != 1


def plain_name(image: ExportImage, folder: str) -> str:
    """The name of the file where the picture was found, below the folder that all pictures lie in."""
    return image.uris[0].removeprefix(f"{folder}/")


def _suffix(kind: str, orientation: int) -> str:
    return _AS_THEY_ARE.get(kind, ".png") if orientation == 1 else ".png"
