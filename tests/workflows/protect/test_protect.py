"""New pictures in which what was found can no longer be seen, and a record of it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from schemas.ids import content_hash
from tests.workflows.conftest import Engine, no_more_files
from tests.workflows.protect.red_detector import save_red_detector
from workflows.cli import main
from workflows.protect.blur import Region
from workflows.protect.commands import ProtectConfig
from workflows.protect.detect import FaceDetector
from workflows.protect.protect import Blurrer
from workflows.sql import connect
from workflows.storage import LocalStore
from workflows.uris import ImageRef, UriReader

RED = (slice(64, 128), slice(96, 160))


@pytest.fixture(scope="session")
def red_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_red_detector(tmp_path_factory.mktemp("detector") / "red.onnx")


@pytest.fixture
def pictures(tmp_path: Path, photo: NDArray[np.uint8]) -> Path:
    """Three pictures: one with a red square, one without, one that EXIF turns, with the square in the upright view."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    plain = np.clip(photo[:256, :320].astype(int) // 2 + [0, 60, 60], 0, 255).astype(np.uint8)
    marked = plain.copy()
    marked[RED] = [255, 0, 0]
    marked[RED][::4] = [200, 0, 0]
    Image.fromarray(marked).save(folder / "marked.png")
    Image.fromarray(plain).save(folder / "plain.jpg", quality=90)
    turned = Image.fromarray(np.rot90(marked).copy())
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", quality=95, exif=exif)
    return folder


def rows_in(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pq.read_table(out / "protected.parquet").to_pylist()
    return found


def record(out: Path) -> dict[str, dict[str, object]]:
    return {Path(str(row["source_uri"])).name: row for row in rows_in(out)}


def test_a_detector_finds_and_the_blur_hides(
    engine: Engine, pictures: Path, red_detector: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    finished = engine("protect", pictures, out, "--detector", red_detector, "--min-score", "0.5")
    assert finished.status == 0, finished.err
    rows = record(out)
    before = np.asarray(Image.open(pictures / "marked.png"))
    for name in ("marked.png", "turned.jpg"):
        after = np.asarray(Image.open(out / str(rows[name]["uri"])))
        assert after.shape == before.shape
        assert np.ptp(after[RED][8:-8, 8:-8], axis=0).max() < np.ptp(before[RED][8:-8, 8:-8], axis=0).max()
        assert rows[name]["n_regions"]
        assert np.abs(after[200:].astype(int) - before[200:]).max() <= (0 if name == "marked.png" else 30)
        regions = json.loads(str(rows[name]["regions"]))
        assert {region["kind"] for region in regions} == {"face"}
        assert min(region["score"] for region in regions) >= 0.5
    assert (out / str(rows["plain.jpg"]["uri"])).read_bytes() == (pictures / "plain.jpg").read_bytes()
    again = FaceDetector(str(red_detector), min_score=0.5)
    assert rows["marked.png"]["blurred_by"] == f"detector {again.sha256}"


@pytest.mark.parametrize("times", [1, 3])
def test_detections_lie_where_the_square_is(red_detector: Path, pictures: Path, times: int) -> None:
    """Also in a picture that is made smaller to be looked at."""
    image = np.asarray(Image.open(pictures / "marked.png")).repeat(times, 0).repeat(times, 1)
    regions = FaceDetector(str(red_detector), min_score=0.5).regions(image)
    covered = np.zeros(image.shape[:2], bool)
    for region in regions:
        y, x = round(region.y), round(region.x)
        covered[max(0, y) : y + round(region.h), max(0, x) : x + round(region.w)] = True
    expected = np.zeros_like(covered)
    expected[tuple(slice(times * side.start, times * side.stop) for side in RED)] = True
    assert (covered & expected).sum() / expected.sum() > 0.8  # boxes are centred on corners of cells
    assert (covered & ~expected).sum() / expected.sum() < 0.5


def test_a_table_says_what_to_blur_and_the_result_is_a_source(engine: Engine, pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "boxes.csv"
    table.write_text(f"file_name,x,y,w,h,kind\nmarked.png,{RED[1].start},{RED[0].start},64,64,plate\n")
    out = tmp_path / "out"
    assert engine("protect", pictures, out, "--boxes", table).status == 0
    rows = record(out)
    (region,) = json.loads(str(rows["marked.png"]["regions"]))
    assert region == {"x": 96, "y": 64, "w": 64, "h": 64, "kind": "plate", "score": None}
    assert (rows["plain.jpg"]["n_regions"], rows["turned.jpg"]["n_regions"]) == (0, 0)
    assert engine("ingest", out / "protected.parquet", tmp_path / "data").status == 0
    found = connect(str(tmp_path / "data")).sql("SELECT count(*), min(height) FROM images").fetchall()
    assert found == [(3, 256)]
    before = {entry.key: entry.stamp for entry in LocalStore(out).list("images")}
    assert engine("protect", pictures, out, "--boxes", table).status == 0
    assert {entry.key: entry.stamp for entry in LocalStore(out).list("images")} == before


def test_no_picture_takes_the_place_of_a_blurred_one(engine: Engine, pictures: Path, tmp_path: Path) -> None:
    """Two ways of blurring in one folder, and two places that hold the same picture."""
    (pictures / "zz").mkdir()
    shutil.copy(pictures / "marked.png", pictures / "zz" / "copy.png")
    table, other, out = tmp_path / "boxes.csv", tmp_path / "other.csv", tmp_path / "out"
    table.write_text("file_name,x,y,w,h\nmarked.png,96,64,64,64\n")
    other.write_text("file_name,x,y,w,h\nplain.jpg,1,1,50,50\n")
    assert engine("protect", pictures, out, "--boxes", table).status == 0
    rows = record(out)
    assert rows["copy.png"]["source_sha256"] == rows["marked.png"]["source_sha256"]
    assert rows["copy.png"]["uri"] != rows["marked.png"]["uri"]
    for arguments in (("--boxes", other), ("--boxes", table, "--margin", "0.5")):
        again = engine("protect", pictures, out, *arguments)
        assert (again.status, "blurred in another way" in again.err) == (2, True)
    for row in rows.values():
        assert content_hash((out / str(row["uri"])).read_bytes()) == row["sha256"]


def test_the_record_of_one_source_does_not_take_the_place_of_anothers(
    engine: Engine, pictures: Path, tmp_path: Path, red_detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(pictures, tmp_path / "more")
    out = tmp_path / "out"
    assert engine("protect", pictures, out, "--detector", red_detector).status == 0
    before = rows_in(out)
    other = engine("protect", tmp_path / "more", out, "--detector", red_detector)
    assert (other.status, "holds pictures of another source" in other.err) == (2, True)
    assert rows_in(out) == before
    monkeypatch.chdir(tmp_path)
    for spelling in ("pictures", "./pictures/"):
        assert engine("protect", spelling, out, "--detector", red_detector).status == 0
    assert rows_in(out) == before


def test_samples_are_the_same_source_from_any_folder(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.sources.SAMPLES", ("coffee.png",))
    table = tmp_path / "boxes.csv"
    table.write_text("file_name,x,y,w,h\ncoffee.png,1,1,50,50\n")
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        finished = engine("protect", "samples", tmp_path / "out", "--boxes", table)
        assert finished.status == 0, finished.err


def test_pictures_that_were_too_large_are_done_with_a_higher_limit(
    engine: Engine, pictures: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (8, 8)).save(pictures / "small.png")
    (tmp_path / "boxes.csv").write_text("file_name,x,y,w,h\nsmall.png,1,1,5,5\n")
    command = ("protect", pictures, tmp_path / "out", "--boxes", tmp_path / "boxes.csv")
    assert engine(*command, "--max-pixels", "1000").status == 1
    assert sorted(record(tmp_path / "out")) == ["small.png"]
    assert engine(*command).status == 0
    assert len(record(tmp_path / "out")) == 4


def test_pictures_that_sort_early_leave_most_of_the_others_done(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.protect.protect.IMAGES_PER_PAGE", 3)
    pictures, out, table = tmp_path / "many", tmp_path / "out", tmp_path / "boxes.csv"
    pictures.mkdir()
    for number in range(100):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(pictures / f"{number:03d}.png")
    table.write_text("file_name,x,y,w,h\n042.png,1,1,3,3\n")
    assert engine("protect", pictures, out, "--boxes", table).status == 0
    seen: list[str] = []
    protect = Blurrer.protect
    monkeypatch.setattr(Blurrer, "protect", lambda self, each: (seen.append(each.uri), protect(self, each))[1])
    Image.new("RGB", (8, 8), (0, 9, 0)).save(pictures / "0.png")
    assert engine("protect", pictures, out, "--boxes", table).status == 0
    assert str(pictures / "0.png") in seen
    assert len(seen) < 90
    assert [Path(str(row["source_uri"])).name for row in rows_in(out)] == [
        "0.png",
        *(f"{n:03d}.png" for n in range(100)),
    ]


def test_rows_of_a_table_that_blur_nothing_are_said(engine: Engine, pictures: Path, tmp_path: Path) -> None:
    (pictures / "sub").mkdir()
    shutil.copy(pictures / "plain.jpg", pictures / "sub" / "plain.jpg")
    table = tmp_path / "boxes.csv"
    boxes = [
        "marked.png,500,20,10,10",
        "sub/plain.jpg,1,1,50,50",
        "nobody.jpg,1,1,5,5",
        "ub/plain.jpg,1,1,5,5",
        ",1,1,5,5",
    ]
    table.write_text("\n".join(["file_name,x,y,w,h", *boxes]) + "\n")
    ran = engine("protect", pictures, tmp_path / "out", "--boxes", table)
    assert ran.status == 1
    assert f"{table}: no picture is called nobody.jpg" in ran.err
    assert f"{table}: no picture is called ub/plain.jpg" in ran.err
    assert f"{table}: a row names no picture" in ran.err
    assert "regions blurred, 4 left out" in ran.out  # 1, it said, without the rows that blurred nothing
    assert "marked.png: the region of 10x10 px at 500,20 lies outside of the picture of" in ran.err
    found = {str(row["source_uri"]).removeprefix(f"{pictures}/"): row["n_regions"] for row in rows_in(tmp_path / "out")}
    assert found == {"plain.jpg": 0, "sub/plain.jpg": 1, "turned.jpg": 0}
    again = engine("protect", pictures, tmp_path / "out", "--boxes", table)  # all pages are done
    assert (again.status, "no picture is called nobody.jpg" in again.err) == (1, True)
    table.write_text("file_name,x,y,w,h\n")
    empty = engine("protect", pictures, tmp_path / "other", "--boxes", table)
    assert (empty.status, "no rows, so nothing would be blurred" in empty.err) == (2, True)


def test_blurred_pictures_do_not_go_among_the_others(engine: Engine, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("file_name,x,y,w,h\nmarked.png,1,1,5,5\n")
    before = sorted(pictures.rglob("*"))
    for out in (pictures, pictures / "new"):
        ran = engine("protect", pictures, out, "--boxes", tmp_path / "boxes.csv")
        assert (ran.status, "overlap" in ran.err, ran.err.count("\n")) == (2, True, 1)
    assert sorted(pictures.rglob("*")) == before


def test_a_pattern_does_not_take_blurred_pictures_in(engine: Engine, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("file_name,x,y,w,h\nmarked.png,1,1,5,5\n")
    command = ("protect", f"{pictures}/**/*.png", pictures, "--boxes", tmp_path / "boxes.csv")
    assert engine(*command).status == 0
    before = sorted(pictures.rglob("*"))
    again = engine(*command)
    assert (again.status, "is a blurred picture" in again.err.splitlines()[-1]) == (2, True)
    assert sorted(pictures.rglob("*")) == before


def test_pictures_that_cannot_be_read_are_left_out(engine: Engine, pictures: Path, tmp_path: Path) -> None:
    (pictures / "broken.png").write_bytes(b"none")
    (tmp_path / "boxes.csv").write_text("file_name,x,y,w,h\nmarked.png,1,1,5,5\n")
    finished = engine("protect", pictures, tmp_path / "out", "--boxes", tmp_path / "boxes.csv")
    assert finished.status == 1
    assert "broken.png: not an image in a known format" in finished.err
    assert "3 pictures, 1 regions blurred, 1 left out" in finished.out
    assert sorted(record(tmp_path / "out")) == ["marked.png", "plain.jpg", "turned.jpg"]


def test_a_picture_that_was_away_is_done_when_it_is_back(engine: Engine, pictures: Path, tmp_path: Path) -> None:
    """A table of places says what the source is, whatever lies there now."""
    (tmp_path / "boxes.csv").write_text("file_name,x,y,w,h\nmarked.png,1,1,5,5\n")
    places = [str(path) for path in sorted(pictures.iterdir())]
    pq.write_table(pa.table({"uri": places}), tmp_path / "source.parquet")
    command = ("protect", tmp_path / "source.parquet", tmp_path / "out", "--boxes", tmp_path / "boxes.csv")
    (pictures / "plain.jpg").rename(tmp_path / "plain.jpg")
    assert engine(*command).status == 1
    (tmp_path / "plain.jpg").rename(pictures / "plain.jpg")
    assert engine(*command).status == 0
    assert sorted(record(tmp_path / "out")) == ["marked.png", "plain.jpg", "turned.jpg"]


def test_what_a_detector_sees_in_the_padding_costs_no_picture(pictures: Path, tmp_path: Path) -> None:
    class Padded(FaceDetector):
        def __init__(self) -> None:
            self.sha256 = "0" * 64

        def regions(self, image: NDArray[np.uint8]) -> list[Region]:
            width = image.shape[1]
            return [Region(width + 2.0, 5.0, 9.0, 9.0, "face", 0.7), Region(width - 5.0, 5.0, 9.0, 9.0, "face", 0.9)]

    config = ProtectConfig(str(pictures), str(tmp_path / "out"), detector="padded.onnx")
    blurrer = Blurrer(config, Padded(), None, UriReader(), LocalStore(tmp_path / "out"))
    row = blurrer.protect(ImageRef(str(pictures / "plain.jpg")))
    assert (row.error, row.n_regions) == (None, 1)


def test_a_machine_at_fault_leaves_no_picture_out(pictures: Path, tmp_path: Path) -> None:
    config = ProtectConfig(str(pictures), str(tmp_path / "out"), boxes="unused.csv")
    blurrer = Blurrer(config, None, None, UriReader(), LocalStore(tmp_path / "out"))
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        blurrer.protect(ImageRef(str(pictures / "plain.jpg")))
    assert blurrer.protect(ImageRef(str(pictures / "plain.jpg"))).uri


def test_places_are_compared_however_they_are_spelled(
    engine: Engine, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    table = tmp_path / "boxes.csv"
    table.write_text(f"uri,x,y,w,h\n{pictures / 'marked.png'},96,64,64,64\n")
    assert engine("protect", "../pictures", tmp_path / "out", "--boxes", table).status == 0
    assert record(tmp_path / "out")["marked.png"]["n_regions"] == 1


def test_frames_that_nobody_looked_at_do_not_go_on(
    engine: Engine, pictures: Path, tmp_path: Path, red_detector: Path
) -> None:
    plain, marked = (Image.open(pictures / name).convert("RGB") for name in ("plain.jpg", "marked.png"))
    for name in ("moves.gif", "scan.tif", "moves.webp", "stereo.mpo"):
        plain.save(pictures / name, save_all=True, append_images=[marked])
    assert engine("protect", pictures, tmp_path / "out", "--detector", red_detector).status == 0
    rows = record(tmp_path / "out")
    for name in ("moves.gif", "scan.tif", "moves.webp", "stereo.mpo"):
        with Image.open(tmp_path / "out" / str(rows[name]["uri"])) as new:
            assert (getattr(new, "n_frames", 1), rows[name]["n_regions"], new.size) == (1, 0, plain.size)
    assert rows["plain.jpg"]["sha256"] == rows["plain.jpg"]["source_sha256"]


def test_what_lies_under_transparency_does_not_go_on(
    engine: Engine, pictures: Path, tmp_path: Path, red_detector: Path
) -> None:
    """Cut-outs often keep the colours of what they hide, and a detector sees white there."""
    cut, opaque = Image.open(pictures / "marked.png"), Image.open(pictures / "plain.jpg").convert("RGBA")
    opaque.save(pictures / "opaque.png")
    alpha = np.full((cut.height, cut.width), 255, np.uint8)
    alpha[RED] = 0
    cut.putalpha(Image.fromarray(alpha))
    for name in ("cut.png", "cut.webp", "cut.tif"):
        cut.save(pictures / name, **({"lossless": True, "exact": True} if name == "cut.webp" else {}))
    assert engine("protect", pictures, tmp_path / "out", "--detector", red_detector).status == 0
    rows = record(tmp_path / "out")
    for name in ("cut.png", "cut.webp", "cut.tif"):
        with Image.open(tmp_path / "out" / str(rows[name]["uri"])) as new:
            assert (rows[name]["n_regions"], new.mode) == (0, "RGB")
            assert (np.asarray(new)[RED] == 255).all()
    assert rows["opaque.png"]["sha256"] == rows["opaque.png"]["source_sha256"]


def test_the_film_behind_a_photograph_does_not_go_on(
    engine: Engine, pictures: Path, tmp_path: Path, red_detector: Path
) -> None:
    """As phones append it to a JPEG; viewers, and Pillow, pass it over."""
    plain, film = (pictures / "plain.jpg").read_bytes(), b"\0\0\0\x18ftypmp42" + b"a face" * 9
    (pictures / "motion.jpg").write_bytes(plain + film)
    Image.open(pictures / "plain.jpg").save(pictures / "scans.jpg", progressive=True, restart_marker_rows=1)
    (pictures / "scans.jpg").write_bytes((pictures / "scans.jpg").read_bytes() + bytes(100))  # as cameras fill up
    Image.open(pictures / "plain.jpg").save(pictures / "plain.png")
    (pictures / "cropped.png").write_bytes((pictures / "plain.png").read_bytes() + b"IDAT a face IEND")
    assert engine("protect", pictures, tmp_path / "out", "--detector", red_detector).status == 0
    rows = record(tmp_path / "out")
    for name in ("motion.jpg", "cropped.png"):
        new = (tmp_path / "out" / str(rows[name]["uri"])).read_bytes()
        assert b"face" not in new
        assert Image.open(io.BytesIO(new)).size == Image.open(pictures / "plain.jpg").size
    for name in ("plain.jpg", "scans.jpg", "plain.png"):
        assert rows[name]["sha256"] == rows[name]["source_sha256"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x,y,w,h\n", "no column 'uri' or 'file_name'"),
        ("uri,x,y\na,1,2\n", "no column w, h"),
        ("uri,x,y,w,h\na,1,2,three,4\n", "row 0: x, y, w and h must be numbers"),
        ("uri,x,y,w,h\na,1,2,0,4\n", r"row 0: a box of 0.0 x 4.0 px at 1.0, 2.0 is none"),
    ],
)
def test_tables_that_are_none(engine: Engine, pictures: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    finished = engine("protect", pictures, tmp_path / "out", "--boxes", tmp_path / "boxes.csv")
    assert finished.status == 2
    assert message in finished.err
    assert finished.err.strip().count("\n") == 0


def test_detectors_that_are_none(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SAM_ENGINE_CHECKPOINTS", raising=False)
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    for detector, message in (
        (tmp_path / "junk.onnx", "not an ONNX model that OpenCV reads"),
        (tmp_path / "none.onnx", "no such file; --detector is an ONNX file, or yunet"),
        ("yunet", "`sam-engine models fetch yunet` gets it"),
    ):
        assert main(["protect", str(pictures), str(tmp_path / "out"), "--detector", str(detector)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_refusals() -> None:
    for values, message in (
        ({}, "say what to blur"),
        ({"boxes": "b", "min_score": 1.0}, "--min-score is 1.0"),
        ({"boxes": "b", "margin": -1.0}, "--margin is -1.0"),
        ({"boxes": "b", "max_pixels": 0}, "--max-pixels is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            ProtectConfig("s", "o", **values)
