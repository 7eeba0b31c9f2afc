"""Pictures that look alike, and positions in EXIF."""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tests.workflows.audit.conftest import IMAGES, NAIROBI, Audited, blobs, pictures
from tests.workflows.report.data_sets import DataSet, done, run_record
from workflows.audit.examples import examples
from workflows.audit.pictures import _glance, difference_hash, exif_position, look, near_pairs
from workflows.audit.subject import open_data_set
from workflows.storage import StoreError
from workflows.uris import UriReader


def test_twins_and_positions_are_found(audited: Audited) -> None:
    found = look(open_data_set(f"{audited.root}@first"), images=100, seed=0)
    assert (found.images, found.unreadable, found.alike) == (IMAGES - 1, 0, 2)
    assert [set(pair.names) for pair in found.pairs] == [{"photo-00.jpg", "photo-01.jpg"}]
    assert found.pairs[0].thumbnails[0].startswith("data:image/webp;base64,")
    assert found.positions == {audited.images[-2]: pytest.approx(NAIROBI, abs=1e-4)}


def test_a_copy_is_looked_at_where_the_first_file_is_gone(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data_set = DataSet(tmp_path / "data")
    paths = pictures(tmp_path / "photos")[:3]
    images = data_set.add_images(paths)
    copy = tmp_path / "zoo.jpg"
    copy.write_bytes(paths[0].read_bytes())
    data_set.add_images([copy], part="copy")
    data_set.add_run([done(image, blobs(3, rng), rng=rng) for image in images], run_record("one"))
    paths[0].unlink()
    subject = open_data_set(str(data_set.root))
    assert (look(subject, images=9, seed=0).unreadable, look(subject, images=9, seed=0).images) == (0, 3)
    assert sum(len(group.examples) for group in examples(subject, seed=0)) == 3


def test_a_file_that_is_another_picture_by_now_is_not_shown_under_the_masks(tmp_path: Path) -> None:
    """Nor called like the one whose copy it has become."""
    rng = np.random.default_rng(1)
    data_set = DataSet(tmp_path / "data")
    paths = pictures(tmp_path / "photos")[2:5]
    images = data_set.add_images(paths)
    data_set.add_run([done(image, blobs(3, rng), rng=rng) for image in images], run_record("one"))
    paths[0].write_bytes(paths[1].read_bytes())
    subject = open_data_set(str(data_set.root))
    found = look(subject, images=9, seed=0)
    assert (found.images, found.unreadable, found.alike) == (2, 1, 0)
    assert sum(len(group.examples) for group in examples(subject, seed=0)) == 2


def test_a_store_at_fault_is_no_damaged_picture(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page counted what it kept back as unreadable, and there were fewer twins and countries on it."""

    def refuse(_: UriReader, uri: str) -> bytes:
        raise StoreError(f"cannot read {uri}: SlowDown (6 attempts)")

    subject = open_data_set(f"{audited.root}@first")
    monkeypatch.setattr(UriReader, "read", refuse)
    with pytest.raises(StoreError, match="SlowDown"):
        look(subject, images=100, seed=0)
    with pytest.raises(StoreError, match="SlowDown"):
        examples(subject, seed=0)


def test_turned_transparent_and_deep_pictures_have_twins(tmp_path: Path, photo: np.ndarray) -> None:
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    kinds = {"plain.png": Image.fromarray(grey), "deep.png": Image.fromarray(grey.astype(np.uint16) * 257)}
    kinds["clear.png"] = Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 255)]))
    for name, picture in kinds.items():
        picture.save(tmp_path / name)
    turned = Image.fromarray(np.rot90(grey).copy())
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    names = (*kinds, "turned.png")
    glances = [_glance(name, name, (tmp_path / name).read_bytes()) for name in names]
    hashes = {glance.hash for glance in glances if glance}
    assert (len(glances), len(hashes)) == (4, 1)


ORIENTATION_6 = struct.pack("<HHII", 0x0112, 3, 1, 6)
ODD_TAGS = {
    "text where a number belongs": struct.pack("<HHI4s", 0x0100, 2, 4, b"abc"),
    "a number below 0": struct.pack("<HHIi", 0x0111, 9, 1, -5),
}


@pytest.mark.parametrize("tag", ODD_TAGS.values(), ids=ODD_TAGS)
def test_odd_tags_of_a_turned_photograph_cost_nothing(tmp_path: Path, photo: np.ndarray, tag: bytes) -> None:
    """Which Pillow reads, and cannot write again."""
    lying = Image.fromarray(np.rot90(photo).copy())
    entries = sorted([ORIENTATION_6, tag])
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    lying.save(tmp_path / "odd.jpg", exif=exif, quality=95)
    Image.fromarray(photo).save(tmp_path / "upright.jpg", quality=95)
    odd, plain = (_glance(name, name, (tmp_path / f"{name}.jpg").read_bytes()) for name in ("odd", "upright"))
    assert odd is not None
    assert plain is not None
    assert odd.hash is not None
    assert plain.hash is not None
    assert (odd.hash ^ plain.hash).bit_count() <= 4


def test_a_turned_tiff_is_the_same_picture_upright(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(np.rot90(photo).copy()).save(tmp_path / "lying.tif", tiffinfo={0x112: 6})
    Image.fromarray(photo).save(tmp_path / "upright.tif")
    lying, plain = (_glance(name, name, (tmp_path / f"{name}.tif").read_bytes()) for name in ("lying", "upright"))
    assert lying is not None
    assert plain is not None
    assert lying.hash == plain.hash


def test_twins_are_shown_upright_and_with_all_their_greys(tmp_path: Path, photo: np.ndarray) -> None:
    grey = Image.fromarray(photo).convert("L")
    turned = Image.Exif()
    turned[0x0112] = 6
    grey.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=turned)
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "b.png")
    data_set, rng = DataSet(tmp_path / "data"), np.random.default_rng(1)
    images = data_set.add_images([tmp_path / "a.png", tmp_path / "b.png"])
    data_set.add_run([done(image, blobs(1, rng), rng=rng) for image in images], run_record("first"))
    (pair,) = look(open_data_set(str(data_set.root)), images=9, seed=0).pairs
    shown = [Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2]))).convert("L") for one in pair.thumbnails]
    assert {one.size for one in shown} == {shown[0].size}
    small = np.asarray(grey.resize(shown[0].size), float)
    for one in shown:
        assert np.abs(np.asarray(one, float) - small).mean() < 8


def test_no_files_are_opened_when_none_are_wanted(audited: Audited) -> None:
    assert look(open_data_set(str(audited.root)), images=0, seed=0).images == 0


def test_a_picture_keeps_its_hash_when_it_is_scaled_brightened_and_recompressed(photo: np.ndarray) -> None:
    picture = Image.fromarray(photo)
    buffer = io.BytesIO()
    ImageEnhance.Brightness(picture.resize((200, 140))).enhance(1.1).save(buffer, "jpeg", quality=60)
    other = difference_hash(Image.open(buffer))
    mirrored = difference_hash(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    own = difference_hash(picture)
    assert own is not None
    assert other is not None
    assert mirrored is not None
    assert (own ^ other).bit_count() <= 3
    assert (own ^ mirrored).bit_count() > 15


def test_a_flat_picture_has_no_hash() -> None:
    assert difference_hash(Image.new("L", (50, 50), 90)) is None


def test_near_pairs_are_those_of_a_double_loop() -> None:
    rng = np.random.default_rng(2)
    hashes = rng.integers(0, 2**63, 60, dtype=np.uint64)
    for number in range(1, 60, 3):  # every third differs from the one before in a few bits
        flips = rng.choice(64, rng.integers(0, 7), replace=False)
        hashes[number] = hashes[number - 1] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64), initial=0)
    pairs, bits = near_pairs(hashes, 4)
    expected = {
        (a, b): int(hashes[a] ^ hashes[b]).bit_count()
        for a in range(60)
        for b in range(a + 1, 60)
        if int(hashes[a] ^ hashes[b]).bit_count() <= 4
    }
    assert {tuple(pair): n for pair, n in zip(pairs.tolist(), bits.tolist(), strict=True)} == expected
    assert (np.diff(bits) >= 0).all()


def test_pairs_that_differ_in_as_many_bits_as_may_be_are_near() -> None:
    """Wherever in the hash these lie: one in each quarter."""
    far = 1 | 1 << 16 | 1 << 32 | 1 << 48
    pairs, bits = near_pairs(np.array([0, far, far | 2], np.uint64), 4)
    assert (pairs.tolist(), bits.tolist()) == ([[1, 2], [0, 1]], [1, 4])


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {1: "N"},
        {1: "N", 2: (400.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {1: "N", 2: (4.0, 0.0, 0.0), 3: "W", 4: (181.0, 0.0, 0.0)},
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
    ],
)
def test_a_broken_position_is_none(tags: dict[int, object]) -> None:
    """Zeros are what is written before a satellite is heard."""
    exif = Image.Exif()
    exif[0x8825] = tags
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "jpeg", exif=exif)
    assert exif_position(Image.open(buffer)) is None


@pytest.mark.parametrize(("sides", "signs"), [(("N", "W"), (1, -1)), (("S", "E"), (-1, 1))])
def test_a_position_has_its_hemispheres(sides: tuple[str, str], signs: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x8825] = {1: sides[0], 2: (52.0, 30.0, 36.0), 3: sides[1], 4: (13.0, 24.0, 0.0)}
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "jpeg", exif=exif)
    assert exif_position(Image.open(buffer)) == pytest.approx((signs[0] * 52.51, signs[1] * 13.4))
