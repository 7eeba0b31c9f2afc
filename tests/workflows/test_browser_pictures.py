"""What a browser is given: the file itself where every viewer agrees on its pixels, else a PNG of our own decoding."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from workflows.browser_pictures import for_browser
from workflows.image_limits import MAX_PIXELS
from workflows.images import ImageError, decode, read_header

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_plain_files_are_shown_as_they_are(kind: str) -> None:
    data = saved(Image.fromarray(PIXELS), kind)
    assert for_browser(data, read_header(data), max_pixels=MAX_PIXELS) == (data, f"image/{kind.lower()}")


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.fromarray(PIXELS), "TIFF"),
        (Image.fromarray(PIXELS).convert("CMYK"), "JPEG"),
        (Image.fromarray(PIXELS).convert("RGBA").rotate(30), "PNG"),
        (Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100), "PNG"),
    ],
    ids=["tiff", "cmyk", "transparent", "sixteen bits"],
)
def test_others_become_a_png_of_the_pixels_that_the_model_sees(image: Image.Image, kind: str) -> None:
    data = saved(image, kind)
    shown, media_type = for_browser(data, read_header(data), max_pixels=MAX_PIXELS)
    assert media_type == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), decode(data, max_pixels=MAX_PIXELS))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_what_only_some_viewers_turn_is_turned_for_them(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(PIXELS), kind, exif=exif, lossless=True)
    shown = Image.open(io.BytesIO(for_browser(data, read_header(data), max_pixels=MAX_PIXELS)[0]))
    assert shown.getexif().get(0x0112) is None
    assert np.array_equal(np.asarray(shown), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


def test_browsers_turn_a_jpeg_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(PIXELS), "JPEG", exif=exif)
    assert for_browser(data, read_header(data), max_pixels=MAX_PIXELS) == (data, "image/jpeg")


def test_a_jpeg_of_which_xmp_alone_says_how_it_lies_is_turned_for_them() -> None:
    data = saved(Image.fromarray(PIXELS), "JPEG", xmp=b"<tiff:Orientation>6</tiff:Orientation>")
    shown, _ = for_browser(data, read_header(data), max_pixels=MAX_PIXELS)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), decode(data))
    assert decode(data).shape == (30, 20, 3)


def test_a_moving_picture_is_shown_as_its_first_frame() -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    shown, media_type = for_browser(data, read_header(data), max_pixels=MAX_PIXELS)
    assert media_type == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), PIXELS)


def test_what_cannot_be_decoded_is_the_image_s_error() -> None:
    data = saved(Image.fromarray(PIXELS), "TIFF")
    with pytest.raises(ImageError):
        for_browser(data[:-900], read_header(data), max_pixels=MAX_PIXELS)
