from __future__ import annotations

import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from workflows.images import ImageError, decode, has_more_frames, read_header

Pixels = NDArray[np.uint8]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def colours() -> Image.Image:
    """24 px wide, 16 px high, four flat quarters."""
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :12], pixels[:8, 12:], pixels[8:, :12], pixels[8:, 12:] = (250, 10, 20), (30, 240, 40), 90, (5, 60, 200)
    return Image.fromarray(pixels)


def refusal(data: bytes, **limits: int) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, **limits)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats_come_back_exactly(colours: Image.Image, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(encoded(colours, kind, **options))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(colours))


def test_jpeg_comes_back_nearly(colours: Image.Image) -> None:
    pixels = decode(encoded(colours, "JPEG", quality=95)).astype(int)
    assert abs(pixels[2:6, 2:8] - (250, 10, 20)).max() < 12


def test_cmyk_jpeg_keeps_its_colours(colours: Image.Image) -> None:
    pixels = decode(encoded(colours.convert("CMYK"), "JPEG", quality=95)).astype(int)
    assert pixels.shape == (16, 24, 3)
    assert abs(pixels[2:6, 2:8] - (250, 10, 20)).max() < 16


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = np.linspace(0, 65535, 256 * 256).astype(np.uint16).reshape(256, 256)
    pixels = decode(encoded(Image.fromarray(grey), "PNG"))
    assert np.array_equal(pixels[..., 0], np.round(grey / 257).astype(np.uint8))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert len(np.unique(pixels)) == 256


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_wider_numbers_are_stretched_over_their_range(kind: type) -> None:
    values = np.linspace(-500, 70_000, 64 * 64).astype(kind).reshape(64, 64)
    pixels = decode(encoded(Image.fromarray(values), "TIFF"))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert (np.diff(pixels[..., 0].ravel().astype(int)) >= 0).all()


def test_a_constant_float_image_is_black() -> None:
    assert decode(encoded(Image.fromarray(np.full((4, 4), 7.5, np.float32)), "TIFF")).max() == 0


def test_numbers_that_are_none_leave_the_range_of_the_others() -> None:
    values = np.array([[-4, 0, 4, np.inf], [np.nan, -np.inf, 2, 4]], np.float32)
    pixels = decode(encoded(Image.fromarray(values), "TIFF"))[..., 0]
    assert pixels.tolist() == [[0, 128, 255, 0], [0, 0, 191, 255]]


@pytest.mark.filterwarnings("error")
def test_an_image_without_a_finite_number_is_black() -> None:
    assert decode(encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF")).max() == 0


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_greyscale_bilevel_and_palette_become_three_channels(colours: Image.Image, mode: str) -> None:
    image = colours.convert(mode)
    pixels = decode(encoded(image, "PNG"))
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_transparency_is_composited_over_white(colours: Image.Image) -> None:
    layer = colours.convert("RGBA")
    layer.putalpha(0)
    layer.paste((100, 100, 100, 255), (0, 0, 12, 16))
    pixels = decode(encoded(layer, "PNG"))
    assert (pixels[:, :12] == 100).all()
    assert (pixels[:, 12:] == 255).all()


def test_half_transparent_grey_is_mixed_with_white() -> None:
    pixels = decode(encoded(Image.new("LA", (3, 2), (0, 128)), "PNG"))
    assert abs(int(pixels[0, 0, 0]) - 127) <= 1


def test_a_transparent_palette_colour_becomes_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), 1)
    pixels = decode(encoded(image, "GIF", transparency=0))
    assert pixels[0, 0].tolist() == [0, 255, 0]
    assert pixels[3, 3].tolist() == [255, 255, 255]


def oriented(image: Image.Image, kind: str, orientation: int) -> bytes:
    """The file as a camera lying on its side writes it; "late PNG" says so behind the pixels."""
    if kind.startswith("TIFF"):
        return encoded(image, "TIFF", tiffinfo={0x112: orientation}, compression=kind.partition(" ")[2] or None)
    tag = Image.Exif()
    tag[0x112] = orientation
    if kind != "late PNG":
        return encoded(image, kind, exif=tag, lossless=True)
    body = tag.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    png = encoded(image, "PNG")
    end = png.rindex(b"IEND") - 4
    return png[:end] + chunk + png[end:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "late PNG", "WEBP", "TIFF", "TIFF tiff_lzw"])
def test_exif_orientation_is_applied_once(colours: Image.Image, kind: str, orientation: int) -> None:
    data = oriented(colours, kind, orientation)
    turned = [
        lambda p: p,
        lambda p: p[:, ::-1],
        lambda p: p[::-1, ::-1],
        lambda p: p[::-1],
        lambda p: p.transpose(1, 0, 2),
        lambda p: np.rot90(p, -1),
        lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        lambda p: np.rot90(p),
    ][orientation - 1](np.asarray(colours))
    assert np.array_equal(decode(data), turned)
    header = read_header(data)
    assert (header.height, header.width) == turned.shape[:2]
    assert header.orientation == orientation


def test_the_pixels_of_a_png_stay_packed_for_its_header(colours: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Image.Image] = []
    monkeypatch.setattr(PngImageFile, "load", lambda image: loads.append(image))
    assert read_header(encoded(colours, "PNG")) == ("png", 16, 24, 1)
    assert not loads


def test_a_senseless_orientation_is_ignored(colours: Image.Image) -> None:
    tag = Image.Exif()
    tag[0x112] = 77
    assert decode(encoded(colours, "JPEG", exif=tag)).shape == (16, 24, 3)


def test_the_first_frame_of_an_animation_counts(colours: Image.Image) -> None:
    second = Image.new("RGB", colours.size, (1, 2, 3))
    data = encoded(colours, "GIF", save_all=True, append_images=[second], duration=40, loop=0)
    assert np.array_equal(decode(data), decode(encoded(colours, "GIF")))


def test_one_pixel_is_an_image() -> None:
    assert decode(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


def test_zero_bytes() -> None:
    assert refusal(b"").kind == "Empty"


def test_text_is_no_image() -> None:
    assert refusal(b"this is a text file, whatever its name says\n" * 40).kind == "NotAnImage"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_truncated_files_are_damaged(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    data = encoded(noise, kind)
    assert refusal(data[: len(data) // 2]).kind in {"Damaged", "NotAnImage"}


def test_truncated_jpeg_says_so() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    error = refusal(encoded(noise, "JPEG")[:9000])
    assert error.kind == "Damaged"
    assert "truncated" in str(error)


def test_a_huge_image_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("1", (30_000, 30_000)), "PNG")
    assert len(data) < 200_000
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    error = refusal(data)
    assert error.kind == "TooManyPixels"
    assert "30000 x 30000" in str(error)
    with pytest.raises(ImageError):
        read_header(data)


def test_the_pixel_limit_can_be_set(colours: Image.Image) -> None:
    data = encoded(colours, "PNG")
    assert decode(data, max_pixels=384).shape == (16, 24, 3)
    assert refusal(data, max_pixels=383).kind == "TooManyPixels"


def test_other_parsers_are_not_reached() -> None:
    """Formats with parsers of doubtful worth, such as PostScript, are no images here."""
    assert refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n").kind == "NotAnImage"


def test_noise_after_a_valid_header_never_raises_anything_else() -> None:
    random = np.random.default_rng(0)
    valid = [encoded(Image.new("RGB", (40, 30), (9, 8, 7)), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF")]
    for data in valid * 20:
        broken = bytearray(data)
        for position in random.integers(8, len(data), 12):
            broken[position] = random.integers(0, 256)
        try:
            pixels = decode(bytes(broken), max_pixels=1_000_000)
        except ImageError:
            continue
        assert pixels.ndim == 3


def empty_png(width: int, height: int) -> bytes:
    """A PNG of 16 bits and four channels that has no pixels in it yet."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_row_too_long_for_pillow_is_the_images_own_fault() -> None:
    """MemoryError is the machine's: one PNG of 400 KB ended all of `embed` and `protect`."""
    for width, height in ((40_000_000, 1), (1, 40_000_000)):
        error = refusal(empty_png(width, height))
        assert (error.kind, "has a side of more than 33,000,000 px" in str(error)) == ("TooManyPixels", True)


def test_a_jpeg_of_scans_without_end_is_refused(colours: Image.Image) -> None:
    """Each is a pass over the picture: 10 MB of them would hold `protect` or `embed` for an hour."""
    data = encoded(colours, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data[:-2] + scan * 400 + data[-2:]).shape == (16, 24, 3)
    assert "a JPEG of 610 scans" in str(refusal(data[:-2] + scan * 600 + data[-2:]))
    film = np.random.default_rng(0).bytes(40_000_000)
    assert film.count(b"\xff\xda") > 550
    assert decode(data + film).shape == (16, 24, 3)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_frames_are_not_counted(colours: Image.Image, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow compares each page of a TIFF with all before it: one of 200,000 pages held `protect` for minutes."""
    several = encoded(colours, kind, save_all=True, append_images=[colours.rotate(90), colours.rotate(180)])
    assert not has_more_frames(encoded(colours, kind))
    for plugin in (GifImageFile, TiffImageFile):
        monkeypatch.setattr(plugin, "n_frames", property(lambda _: pytest.fail("counted")))
    assert has_more_frames(several)


def test_errors_travel_between_processes() -> None:
    copy = pickle.loads(pickle.dumps(ImageError("Damaged", "no pixels")))
    assert (copy.kind, str(copy)) == ("Damaged", "no pixels")


def test_header_of_a_photograph(colours: Image.Image, tmp_path: Path) -> None:
    header = read_header(encoded(colours, "JPEG"))
    assert header == ("jpeg", 16, 24, 1)
