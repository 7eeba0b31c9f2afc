"""Real image files, small on disk, that take the process which decodes them down."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image

_SIDE = 6000


def memory_bomb(path: Path) -> Path:
    """A black PNG of a few kilobytes and 144 million pixels: more than half a gigabyte once it is decoded."""
    Image.new("1", (12_000, 12_000)).save(path)
    return path


def slow_jpeg(path: Path, *, scans: int = 490) -> Path:
    """A progressive JPEG of nearly as many scans as are worked on, each of which looks at all coefficients again to
    refine those that are not 0, which none is: 100 kB, and many seconds of decoding."""
    blocks = (_SIDE // 8) ** 2
    frame = struct.pack(">BHHBBBB", 8, _SIDE, _SIDE, 1, 1, 0x11, 0)
    head = b"\xff\xd8" + _segment(0xDB, b"\0" + b"\1" * 64) + _segment(0xC2, frame)
    dc = _segment(0xC4, _one_code(0x00, 0x00)) + _scan(0, 0, bytes(blocks // 8 + 1))
    runs = bytes(15 * (blocks // (1 << 14) + 1) // 8 + 1)  # of 2^14 blocks without new coefficients
    path.write_bytes(head + dc + _segment(0xC4, _one_code(0x10, 0xE0)) + _scan(1, 63, runs, 0x10) * scans + b"\xff\xd9")
    return path


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _one_code(table: int, symbol: int) -> bytes:
    """A Huffman table whose only code is the bit 0."""
    return bytes([table, 1, *[0] * 15, symbol])


def _scan(first: int, last: int, data: bytes, bits: int = 0x00) -> bytes:
    """Of coefficients first to last; bits: how many low ones are known before, and left out, as hexadecimal digits."""
    return _segment(0xDA, bytes([1, 1, 0x00, first, last, bits])) + data
