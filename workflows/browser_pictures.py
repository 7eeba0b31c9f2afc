"""Image files as browsers show them: the bytes as they are where that is faithful, else a PNG of our own decoding."""

from __future__ import annotations

import io

from PIL import ExifTags, Image

from workflows.images import Header, decode

UPRIGHT = 1
"""EXIF's orientation of a picture that is not turned."""
_SHOWN_AS_THEY_ARE = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


def for_browser(data: bytes, header: Header, *, max_pixels: int) -> tuple[bytes, str]:
    """Picture and media type. Raises ImageError when the pixels cannot be decoded."""
    is_shown_upright = header.orientation == UPRIGHT or (header.format == "jpeg" and _has_exif_orientation(data))
    if header.format in _SHOWN_AS_THEY_ARE and is_shown_upright and _is_plain(data):
        return data, _SHOWN_AS_THEY_ARE[header.format]
    buffer = io.BytesIO()
    Image.fromarray(decode(data, max_pixels=max_pixels)).save(buffer, "png", compress_level=1)
    return buffer.getvalue(), "image/png"


def _has_exif_orientation(data: bytes) -> bool:
    """Whether EXIF itself says how a JPEG lies: browsers turn it then. They turn no WebP, and nothing for XMP alone."""
    exif = Image.Exif()
    exif.load(Image.open(io.BytesIO(data)).info.get("exif", b""))
    return ExifTags.Base.Orientation in exif


def _is_plain(data: bytes) -> bool:
    """Whether all viewers agree on the pixels: 8-bit grey or RGB without transparency, one frame."""
    image = Image.open(io.BytesIO(data))
    plain = image.mode in ("L", "RGB", "P") and not image.has_transparency_data
    return plain and getattr(image, "n_frames", 1) == 1
