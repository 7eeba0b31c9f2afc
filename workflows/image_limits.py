"""How large an image may be; imported by every command, so it imports nothing that takes time."""

MAX_PIXELS = 200_000_000
_BYTES_PER_PIXEL = 8  # of 16-bit RGBA without compression, the widest pixels that are worked on
_ROOM_FOR_METADATA = 64 << 20


def byte_limit(max_pixels: int) -> int:
    """The largest file that is read when images may have so many pixels: anything beyond is no single image."""
    return _BYTES_PER_PIXEL * max_pixels + _ROOM_FOR_METADATA
