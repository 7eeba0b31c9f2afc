"""Runs `sam-engine generate` over files made to break it, and says what became of each.

    python -m tests.benchmarks.hostile [--images 500] [--seed 0] [--json FILE]

Images are sound files of every format, cut and with flipped bits, beside bombs made by hand (`bombs`). A run must end
with exit status 0 or 1, an outcome for every distinct image, no crash, and nothing written outside of its data set.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image, PngImagePlugin

from schemas.ids import image_id
from tests.benchmarks.record import environment_fields, write_json
from workflows.sql import connect

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "GIF": ".gif", "BMP": ".bmp", "PPM": ".ppm"}
MAX_PIXELS = 1_000_000
_QUICK = "--points-per-side 2 --min-predicted-iou 0 --min-stability-score 0"


@dataclass(frozen=True, slots=True)
class Options:
    """Fuzzes the main job with damaged images."""

    images: int = 500
    """Damaged images, over and above the bombs."""
    seed: int = 0
    """Which damage is done."""
    model: str = "vit_n"
    """Name of a model or path of a checkpoint."""
    limit: float = 600.0
    """Seconds after which the run counts as hanging."""
    json: Path | None = None
    """Where to write the record."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run over hostile files did. `outside` are files it wrote or changed outside of its data set."""

    exit_status: int | None
    seconds: float
    files: int
    distinct: int
    outcomes: int
    ok: int
    errors: dict[str, int]
    crashed: int
    outside: list[str]

    @property
    def sound(self) -> bool:
        told = self.exit_status == (0 if self.ok == self.outcomes else 1)
        return told and self.outcomes == self.distinct and not self.crashed and not self.outside


def write_hostile(folder: Path, *, images: int, seed: int) -> None:
    """Fill a folder with bombs and with `images` damaged images."""
    folder.mkdir(parents=True)
    hostile = bombs() | {f"fuzz-{n:04d}{end}": data for n, (end, data) in enumerate(damaged(images, seed))}
    for name, data in hostile.items():
        (folder / name).write_bytes(data)


def damaged(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Endings and bytes of sound images of every format in turn after one kind of damage each."""
    random = np.random.default_rng(seed)
    sound = [(end, encoded(kind)) for kind, end in FORMATS.items()]
    for number in range(count):
        end, data = sound[number % len(sound)]
        yield end, damage(data, random)


def damage(data: bytes, random: np.random.Generator) -> bytes:
    """Cut off, flipped bits, overwritten or repeated stretches, or extreme 32-bit numbers put into the header."""
    broken = bytearray(data)
    match int(random.integers(5)):
        case 0:
            return bytes(broken[: random.integers(1, len(broken))])
        case 1:
            for position in random.integers(0, len(broken), random.integers(1, 20)):
                broken[position] ^= 1 << int(random.integers(8))
        case 2:
            start = int(random.integers(len(broken)))
            broken[start : start + 64] = random.bytes(len(broken[start : start + 64]))
        case 3:
            start = int(random.integers(len(broken)))
            broken[start:start] = broken[start : start + 256] * int(random.integers(1, 50))
        case _:
            extreme = struct.pack("<I", int(random.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])))
            position = int(random.integers(0, min(64, len(broken) - 4)))
            broken[position : position + 4] = extreme
    return bytes(broken)


def encoded(kind: str, *, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """A sound image file of noise over colours; size is (width, height)."""
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def bombs() -> dict[str, bytes]:
    """Files by name that ask for far more than they are."""
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "A" * (64 << 20), zip=True)
    frames = [Image.new("RGB", (64, 48), (n, n, n)) for n in range(200)]
    many: dict[str, Any] = {"save_all": True, "append_images": frames}
    exif = Image.Exif()
    exif[0x010E] = "A" * 60_000
    return {
        "png-30000-squared.png": _png(30_000, 30_000, zlib.compress(bytes(1 << 24), 9)),
        "png-2-to-31-squared.png": _png(2**31 - 1, 2**31 - 1, zlib.compress(b"")),
        "png-zero-wide.png": _png(0, 10, zlib.compress(b"")),
        "png-too-few-pixels.png": _png(900, 900, zlib.compress(bytes(10))),
        "png-too-many-pixels.png": _png(8, 8, zlib.compress(bytes(1 << 26), 9)),
        "png-text-bomb.png": encoded("PNG", pnginfo=text),
        "png-icc-bomb.png": _png(8, 8, _rows(8), (b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 26), 9))),
        "png-itxt-bomb.png": _png(
            8, 8, _rows(8), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(1 << 26)))
        ),
        "png-text-of-4-gb.png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 0xFFFFFFFF) + b"tEXt" + bytes(64),
        "jpeg-65500-squared.jpg": _jpeg_of_size(65500, 65500),
        "jpeg-many-scans.jpg": _jpeg_scans(400),
        "jpeg-exif-loop.jpg": encoded("JPEG", exif=b"Exif\0\0" + _ifd_loop()),
        "jpeg-exif-long.jpg": encoded("JPEG", exif=exif),
        "jpeg-icc-noise.jpg": encoded("JPEG", icc_profile=bytes(range(256)) * 200),
        "jpeg-xmp-billion-laughs.jpg": encoded("JPEG", xmp=_laughs()),
        "tiff-4-billion.tif": _tiff(0xFFFFFFFF, 0xFFFFFFFF),
        "tiff-ifd-loop.tif": _ifd_loop(),
        "tiff-many-pages.tif": encoded("TIFF", **many),
        "tiff-negative-strip.tif": _tiff(64, 48, strip=0xFFFFFFF0),
        "gif-many-frames.gif": encoded("GIF", **many),
        "gif-65535-squared.gif": b"GIF89a"
        + struct.pack("<HH", 65535, 65535)
        + b"\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0;",
        "gif-frame-outside.gif": b"GIF89a\x08\0\x08\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\x02\x4c\x01\0;",
        "webp-16383-squared.webp": _webp_of_size(16383, 16383),
        "bmp-2-to-31-wide.bmp": _bmp(2**31 - 1, 1),
        "bmp-negative.bmp": _bmp(-5, -(2**31)),
        "ppm-huge.ppm": b"P6 99999999999999999999 9999999999999 255\n",
        "ppm-million-digits.ppm": b"P6 " + b"9" * 1_000_000 + b" 1 255\n",
        "empty.png": b"",
        "text.jpg": b"no image at all\n" * 1000,
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) (r) file\n",
        "svg.png": b"<?xml version='1.0'?><!DOCTYPE x SYSTEM 'file:///etc/passwd'><svg/>",
        "archive.png": b"PK\x03\x04" + bytes(1000),
        "pickle.png": b"cposix\nsystem\n(S'touch fired'\ntR.",
        "<img src=x onerror=alert(1)>.png": b"markup in a name",
        "$(touch fired);`touch fired`.png": b"commands in a name",
        "%s%n{0.__class__}.png": b"formats in a name",
    }


def run_over(source: Path, root: Path, *, model: str, limit: float) -> Verdict:
    """One run of the command, in a folder of its own below `root`, watched from outside."""
    (root / "cwd").mkdir()
    data, before = root / "data", _snapshot(root)
    words = ["-m", "workflows.cli", "generate", source, data, "--model", model, "--max-pixels", MAX_PIXELS]
    command = [sys.executable, *map(str, words), *_QUICK.split()]
    start = time.monotonic()
    try:
        status = subprocess.run(command, cwd=root / "cwd", timeout=limit, capture_output=True, check=False).returncode
    except subprocess.TimeoutExpired:
        status = None
    seconds = time.monotonic() - start
    after = {path: stamp for path, stamp in _snapshot(root).items() if not path.startswith("data/")}
    outside = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    contents = [path.read_bytes() for path in source.iterdir()]
    distinct = len({image_id(data) for data in contents})
    return Verdict(status, seconds, len(contents), distinct, outside=outside, **_counts(data))


def _counts(data: Path) -> dict[str, Any]:
    query = "SELECT status, error_class, count(*) FROM outcomes GROUP BY ALL"
    rows = connect(str(data)).execute(query).fetchall() if (data / "dataset.json").exists() else []
    total: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for status, error, count in rows:
        total[status] += count
        errors[error or ""] += count if status == "error" else 0
    found = {name: count for name, count in sorted(errors.items()) if count}
    return {"outcomes": total.total(), "ok": total["ok"], "errors": found, "crashed": total["crashed"]}


def _snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a folder, by relative path."""
    found = {path: path.lstat() for path in root.rglob("*") if not path.is_dir()}
    return {str(path.relative_to(root)): (status.st_size, status.st_mtime_ns) for path, status in found.items()}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, compressed: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", compressed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _rows(side: int) -> bytes:
    return zlib.compress(bytes(side * (1 + 3 * side)))


def _jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded("JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _jpeg_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there again and again, each of which costs a pass over the picture."""
    data = encoded("JPEG", size=(900, 900), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2][:200] * count + data[-2:]


def _webp_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded("WEBP"))
    frame = data.index(b"\x9d\x01\x2a")
    data[frame + 3 : frame + 7] = struct.pack("<HH", width, height)
    return bytes(data)


def _tiff(width: int, height: int, *, strip: int = 8) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, strip)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, 0xFFFFFFF0)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


def _ifd_loop() -> bytes:
    """A directory with a sub-directory and a next directory that are itself."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    return b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8)


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(6)


def _laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]><x>&l9;</x>'.encode()


def run(options: Options) -> Verdict:
    """Makes the files, runs, prints and stores."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        write_hostile(root / "images", images=options.images, seed=options.seed)
        verdict = run_over(root / "images", root, model=options.model, limit=options.limit)
    record = asdict(verdict) | {"sound": verdict.sound, "bombs": len(bombs())}
    for name, value in record.items():
        print(f"{name:12} {value}")
    if options.json:
        config = {"images": options.images, "seed": options.seed, "model": options.model, "max_pixels": MAX_PIXELS}
        write_json(options.json, record | {"config": config, **environment_fields()})
    return verdict


def main() -> None:
    sys.exit(0 if run(tyro.cli(Options)).sound else 1)


if __name__ == "__main__":
    main()
