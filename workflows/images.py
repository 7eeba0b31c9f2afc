"""Bytes of any image file -> uint8 RGB pixels, with limits that hold before anything is decoded."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from workflows.failures import first_line
from workflows.image_limits import MAX_PIXELS

_LONGEST_SIDE = 33_000_000
"""px: of a longer row, of 8 bytes a pixel, Pillow counts the bits in 31, and says that memory is short."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")
_PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
_PNG_SIGNATURE, _PNG_CHUNK = b"\x89PNG\r\n\x1a\n", 12  # bytes of a chunk beside its data
_END_OF_IMAGE, _START_OF_SCAN = b"\xd9", b"\xda"
_SCAN, _MOST_SCANS = b"\xff\xda", 500
"""How a scan of a JPEG begins, and how many are worked on: photographs have a dozen at most, and each is a pass over
all pixels, however few bytes it has."""
_SEGMENT = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Where a scan of a JPEG ends: in it 0xff stands before 0 or the number of a restart alone."""
_WHITE = (255, 255, 255)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


UNREADABLE = "Unreadable"


class ImageError(ValueError):
    """An image that cannot be worked on. `kind` is the error class of the outcomes table, the text its message.

    Kinds: Unreadable (no bytes), Refused (a store that denies them), TooManyBytes, Changed (other bytes than the plan
    lists), Empty, NotAnImage, TooManyPixels, Damaged.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


class Header(NamedTuple):
    """What the first bytes of an image file say.

    `format` is in lower case, `height` and `width` are px of the upright image, `orientation` is EXIF's (1 to 8).
    """

    format: str
    height: int
    width: int
    orientation: int


def read_header(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Format and size without decoding the pixels. Raises ImageError (Empty, NotAnImage, TooManyPixels)."""
    image = _open(data, max_pixels)
    width, height = _stored_size(image)
    orientation = _header_orientation(image, data)
    if orientation >= 5:
        width, height = height, width
    return Header((image.format or "").lower(), height, width, orientation)


def has_more_frames(data: bytes) -> bool:
    """Whether an image file is an animation, has pages beyond the first, the only one that is ever decoded, or, a JPEG
    or PNG, anything behind its picture, as the film of a phone's "motion photo", or what a phone's editor left of the
    picture before it was cropped; also where it is too damaged to tell. Raises ImageError for what is no image."""
    image = _open(data, sys.maxsize)
    try:
        image.seek(1)  # to count them would take hours where they are many: of a TIFF each is compared with all before
        return True
    except EOFError:
        behind = {"JPEG": _behind_jpeg, "PNG": _behind_png}.get(image.format or "")
        return behind is not None and bool(behind(data).strip(b"\0"))
    except Exception:  # decoders of hostile bytes raise nearly everything
        return True


def hides_colours(data: bytes, *, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether an image file holds colours that are not to be seen, as some of its pixels are transparent. Raises as
    `decode`."""
    if not _open(data, max_pixels).has_transparency_data:
        return False
    return bool((_decoded(data, max_pixels, lambda image: image.convert("RGBA").getchannel("A")) < 255).any())


def _behind_jpeg(data: bytes) -> bytes:
    """What follows the end mark of a JPEG; all from where its segments cannot be followed any more."""
    place = 2
    while data[place : place + 1] == b"\xff":
        mark, place = data[place + 1 : place + 2], place + 2
        if mark == _END_OF_IMAGE:
            return data[place:]
        place += int.from_bytes(data[place : place + 2], "big")
        if mark == _START_OF_SCAN:
            found = _SEGMENT.search(data, place)
            place = found.start() if found else len(data)
    return data[place:]


def _behind_png(data: bytes) -> bytes:
    """What follows the last chunk of a PNG; nothing where that is missing."""
    place = len(_PNG_SIGNATURE)
    while place < len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        place += _PNG_CHUNK + size
        if kind == b"IEND":
            break
    return data[place:]


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an image file to uint8 RGB [height, width, 3], upright.

    EXIF orientation is applied. Transparency is composited over white. 16-bit grey is scaled by 1/257 so that the whole
    range is kept; wider integers and floats are stretched from their own minimum and maximum. CMYK is converted without
    a colour profile. Of an animation or a multi-page file the first frame counts.

    Raises ImageError (Empty, NotAnImage, TooManyPixels, Damaged); `max_pixels` is checked before decoding. Raises
    MemoryError when there is too little of it here and now, which is not the image's own property.
    """
    return _decoded(data, max_pixels, lambda image: upright(to_rgb(image), orientation_left(image)))


def decode_with_alpha(data: bytes) -> NDArray[np.uint8]:
    """Decode to uint8 RGBA [height, width, 4], not turned upright; opaque where the file says nothing of it.

    Raises ImageError and MemoryError as `decode`.
    """
    return _decoded(data, MAX_PIXELS, lambda image: image.convert("RGBA"))


def decode_indices(data: bytes) -> NDArray[np.uint8]:
    """Decode an image that has a palette to its indices, uint8 [height, width], not turned upright.

    Raises ImageError and MemoryError as `decode`.
    """
    return _decoded(data, MAX_PIXELS, lambda image: image)


def _decoded(data: bytes, max_pixels: int, pixels: Callable[[Image.Image], Image.Image]) -> NDArray[np.uint8]:
    image = _open(data, max_pixels)
    try:
        image.load()
        return np.array(pixels(image), dtype=np.uint8)
    except MemoryError:
        raise
    except Exception as error:  # decoders of hostile bytes raise nearly everything
        raise ImageError("Damaged", f"{image.format} cannot be decoded: {first_line(error)}") from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise ImageError("Empty", "the file has no bytes")
    Image.MAX_IMAGE_PIXELS = None  # our own limit follows, with a message of its own
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError("NotAnImage", f"not an image in a known format ({', '.join(FORMATS)})") from error
    except Exception as error:  # decoders of hostile bytes raise nearly everything
        raise ImageError("NotAnImage", f"the header cannot be read: {first_line(error)}") from error
    width, height = image.size
    if not width * height:
        raise ImageError("Empty", f"the picture is {width} x {height} px")
    if width * height > max_pixels:
        raise ImageError("TooManyPixels", f"{width} x {height} px is more than the limit of {max_pixels:,} px")
    if max(width, height) > _LONGEST_SIDE:
        raise ImageError("TooManyPixels", f"{width} x {height} px has a side of more than {_LONGEST_SIDE:,} px")
    if image.format in ("JPEG", "MPO") and (scans := data.count(_SCAN)) > _MOST_SCANS + _by_chance(data):
        raise ImageError("Damaged", f"a JPEG of {scans:,} scans")
    return image


def _by_chance(data: bytes) -> int:
    """More often than two bytes stand beside one another in so many, as in the film behind a photograph."""
    return len(data) >> 15


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height, px, before the image is turned upright; of a TIFF, Pillow says those after it."""
    if not isinstance(image, TiffImageFile):
        return image.size
    return image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]


def _header_orientation(image: Image.Image, data: bytes) -> int:
    """EXIF orientation 1..8 that an unloaded image was stored with; 1 as in `_orientation`.

    Pillow unpacks every PNG that begins without EXIF, in case it ends with some; here only those that may.
    """
    if image.format == "PNG" and not _ends_with_exif(data):
        return _orientation(partial(Image.Image.getexif, image))
    return _orientation(image.getexif)


def _ends_with_exif(png: bytes) -> bool:
    """Whether what may say an orientation stands behind a PNG's pixels."""
    pixels = png.find(b"IDAT")
    return any(png.find(sign, pixels) >= 0 for sign in _PNG_EXIF)


def orientation_left(image: Image.Image) -> int:
    """EXIF orientation 1..8 that a loaded image has still to be turned by; Pillow has turned a TIFF by then."""
    return _orientation(image.getexif)


def _orientation(tags: Callable[[], Image.Exif]) -> int:
    """EXIF orientation 1..8; 1 where the tag is missing, out of range or unreadable."""
    try:
        value = int(tags().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken tag must not cost the image
        return 1
    return value if value in _TURNS else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as EXIF's orientation says; tags are left alone, since odd ones cannot be written again."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode in 8-bit RGB: 16-bit grey over 257, wider numbers over their own range, what is transparent on white."""
    if image.mode.startswith("I;16"):
        grey = np.asarray(image, dtype=np.uint16)
        return Image.fromarray(((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretch(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (*_WHITE, 255)), layer).convert("RGB")
    return image.convert("RGB")


def _stretch(values: NDArray[np.int32] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """Any numbers [height, width] -> uint8 over their own finite range; a constant image becomes black."""
    wide = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    low, high = np.fmin.reduce(wide, axis=None), np.fmax.reduce(wide, axis=None)  # which pass over NaN
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    return np.asarray(np.nan_to_num((wide - low) * (255.0 / (high - low))).round(), np.uint8)
