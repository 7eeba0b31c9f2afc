"""Label images of every kind, and what is none."""

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from workflows.labels import decode_labels

BELOW_VOID = {1: 2, 2: 4, 4: 16, 8: 255}
"""How many labels a palette of so many bits has, without the one that VOC leaves open."""


def labels(count: int, dtype: type[np.generic]) -> NDArray[np.generic]:
    """Every label below `count`, and 0 again and again."""
    shuffled = np.random.default_rng(0).permutation(np.resize(np.arange(count), (count // 16 + 1) * 48))
    return shuffled.reshape(-1, 16).astype(dtype)


def with_palette(indices: NDArray[np.uint8], bits: int) -> bytes:
    image = Image.fromarray(indices, mode="P")
    image.putpalette(np.random.default_rng(1).integers(0, 256, 3 * 2**bits).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "png", bits=bits)
    return buffer.getvalue()


@pytest.mark.parametrize(("dtype", "count"), [(np.uint8, 256), (np.uint16, 3000)])
def test_grey_ones_are_their_values(dtype: type[np.generic], count: int) -> None:
    wanted = labels(count, dtype)
    _, data = cv2.imencode(".png", wanted)
    np.testing.assert_array_equal(decode_labels(data.tobytes(), "a.png"), wanted)


@pytest.mark.parametrize("bits", BELOW_VOID)
def test_ones_with_a_palette_are_their_indices(bits: int) -> None:
    wanted = labels(BELOW_VOID[bits], np.uint8)
    np.testing.assert_array_equal(decode_labels(with_palette(wanted, bits), "a.png"), wanted)


def test_what_voc_leaves_open_is_no_mask() -> None:
    drawn = labels(4, np.uint8)
    drawn[0] = 255
    found = decode_labels(with_palette(drawn, 8), "a.png")
    np.testing.assert_array_equal(found, np.where(drawn == 255, 0, drawn))
    _, grey = cv2.imencode(".png", drawn)
    assert 255 in decode_labels(grey.tobytes(), "a.png")


@pytest.mark.parametrize("data", [b"", b"no picture", b"no picture" + bytes([3] * 30)])
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^a\.png: not a label image, a PNG that is grey or has a palette$"):
        decode_labels(data, "a.png")


def test_damage_is_told() -> None:
    whole = with_palette(labels(200, np.uint8), 8)
    for damaged in (whole[:60], whole[:-200]):
        with pytest.raises(ValueError, match=r"^a\.png: (PNG cannot be decoded|the header cannot be read): "):
            decode_labels(damaged, "a.png")


def test_colours_are_refused() -> None:
    _, data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="not a label image"):
        decode_labels(data.tobytes(), "a.png")


def test_a_jpeg_called_png_holds_no_labels() -> None:
    """Its compression makes up values along every border, each of which would be a mask."""
    labels = np.zeros((64, 64), np.uint8)
    labels[9:40, 9:40] = 200
    data = cv2.imencode(".jpg", labels)[1]
    with pytest.raises(ValueError, match=r"a\.png: not a label image, a PNG that is grey or has a palette"):
        decode_labels(data.tobytes(), "a.png")
