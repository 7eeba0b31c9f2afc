"""A picture that cannot be read: another stands in, it is told, and there is a bound. A failing store is none of it."""

from __future__ import annotations

import errno
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import boto3
import numpy as np
import pytest
import torch
from PIL import Image

from sam_core.masks.rle import encode
from tests.workflows.conftest import save_labelled
from tests.workflows.report.data_sets import DataSet, boxes, done, run_record
from tests.workflows.report.data_sets import photos as save_noise
from tests.workflows.train.conftest import picture, small_config
from workflows.originals import MOVED
from workflows.storage import StoreError
from workflows.train.left_out import LAST, LeftOut, UnreadableError, blamed_on
from workflows.train.samples import TRIES, Sampler
from workflows.train.sources import Source, open_sources

NUMBERS = range(24)


def coco_of(labelled: Path) -> Path:
    """A COCO JSON beside images/, one box as polygon on each."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in range(6)]
    drawn = {"segmentation": [[2, 3, 30, 3, 30, 31, 2, 31]], "bbox": [2, 3, 28, 28], "area": 784, "category_id": 1}
    annotations = [{"id": n, "image_id": n, **drawn} for n in range(6)]
    path = labelled / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return path


def table_of(folder: Path) -> Path:
    """A data set with masks on four pictures."""
    rng = np.random.default_rng(0)
    data = DataSet(folder / "data")
    known = data.add_images(save_noise(folder / "photos", 4, rng=rng))
    data.add_run([done(each, boxes((24, 36), 3, rng=rng), rng=rng) for each in known], run_record("one"))
    return data.root


def opened(kind: str, tmp_path: Path) -> Source:
    """A source of every kind that names pictures, and its masks."""
    if kind == "table":
        text = table_of(tmp_path)
    elif kind == "sa1b":
        text = tmp_path / "sa1b"
        text.mkdir()
        for number in range(4):
            Image.fromarray(picture(number)[0]).save(text / f"sa_{number}.png")
            (text / f"sa_{number}.json").write_text(sa1b_document(number))
    else:
        text = save_labelled(tmp_path / "labelled", {seed: picture(seed) for seed in range(6)})
        text = coco_of(text) if kind == "coco" else text
    (source,) = open_sources((str(text),), need_masks=True)
    return source


def sa1b_document(number: int) -> str:
    mask = {"size": [48, 64], "counts": encode(picture(number)[1] > 0).decode()}
    found = {"id": 1, "segmentation": mask, "bbox": [0, 0, 1, 1], "area": 9, "predicted_iou": 0.9}
    found |= {"stability_score": 0.9, "crop_box": [0, 0, 64, 48], "point_coords": [[1, 1]]}
    info = {"image_id": number, "width": 64, "height": 48, "file_name": f"sa_{number}.png"}
    return json.dumps({"image": info, "annotations": [found]})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def grow(path: Path) -> None:
    Image.new("L", (90, 80), 1).save(path)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, "PNG cannot be decoded: "),
    "empty": (lambda path: path.write_bytes(b""), "the file has no bytes"),
    "no picture": (lambda path: path.write_bytes(b"<html>"), "not an image in a known format"),
    "vanished": (Path.unlink, "no such file"),
    "other size": (grow, "masks of 64x48 px for an image of 90x80 px; they belong to another"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["labels", "coco", "sa1b", "table"])
def test_another_picture_stands_in_and_only_there(tmp_path: Path, kind: str, damage: str) -> None:
    source, config = opened(kind, tmp_path), small_config()
    intact = Sampler((source,), config)
    place = intact.describe(NUMBERS[0])
    before = [intact.sample(number) for number in NUMBERS]
    spoil, reason = DAMAGE[damage]
    spoil(Path(place))
    sampler, backwards = Sampler((source,), config), Sampler((source,), config)
    after = [sampler.sample(number) for number in NUMBERS]
    again = [backwards.sample(number) for number in reversed(NUMBERS)][::-1]
    hit = [sampler.describe(number) == place for number in NUMBERS]
    assert 0 < sum(hit) < len(NUMBERS)
    assert [not torch.equal(a.images, b.images) for a, b in zip(before, after, strict=True)] == hit
    assert all(torch.equal(a.images, b.images) for a, b in zip(after, again, strict=True))
    assert all(torch.equal(a.masks, b.masks) for a, b in zip(after, again, strict=True))
    if kind == "table":
        reason = f"no such file{MOVED}" if damage == "vanished" else "the file has other bytes than when it was"
    told = sampler.take_left_out()
    assert told.keys() == {place}
    assert told[place].startswith(reason)
    assert sampler.take_left_out() == {}


@pytest.mark.parametrize(
    ("kind", "ending", "reason"),
    [("labels", "labels/{}.png", "not a label image"), ("sa1b", "{}.json", "not JSON")],
)
def test_masks_that_cannot_be_read_leave_their_picture_out(tmp_path: Path, kind: str, ending: str, reason: str) -> None:
    source = opened(kind, tmp_path)
    sampler = Sampler((source,), small_config())
    place = Path(sampler.describe(0))
    masks = Path(source.name) / ending.format(place.stem)
    masks.write_bytes(b"{")
    sampler.sample(0)
    told = sampler.take_left_out()
    assert told.keys() == {str(place)}
    assert str(masks) in told[str(place)]
    assert reason in told[str(place)]


@pytest.mark.parametrize("counts", [b"", b"garbage", b"\xff\xfe", bytes(range(48, 112)), b"0" * 9])
def test_counts_that_are_no_mask_leave_their_picture_out(tmp_path: Path, counts: bytes) -> None:
    source = opened("table", tmp_path)
    rows = source.index.to_pylist()
    rows[0]["rles"] = [counts] * 3
    spoilt = Source(source.name, 1.0, source.index.from_pylist(rows, source.index.schema))
    sampler = Sampler((spoilt,), small_config())
    sampler.batch(NUMBERS)
    assert sampler.take_left_out().keys() == {rows[0]["uris"][0]}


def test_a_second_place_of_a_picture_is_read(tmp_path: Path) -> None:
    source = opened("table", tmp_path)
    copies = shutil.copytree(tmp_path / "photos", tmp_path / "copies")
    rows = source.index.to_pylist()
    for row in rows:
        row["uris"].append(str(copies / Path(row["uris"][0]).name))
    twice = Source(source.name, 1.0, source.index.from_pylist(rows, source.index.schema))
    wanted = Sampler((twice,), small_config()).batch(NUMBERS)
    shutil.rmtree(tmp_path / "photos")
    sampler = Sampler((twice,), small_config())
    assert torch.equal(sampler.batch(NUMBERS).images, wanted.images)
    assert sampler.take_left_out() == {}


def test_where_nothing_is_there_it_ends_in_one_line(tmp_path: Path) -> None:
    """An OSError: a disk that is not mounted may be there when the same command goes on."""
    source = opened("labels", tmp_path)
    shutil.rmtree(Path(source.name) / "images")
    wanted = rf"{TRIES} images in a row could not be used; the last was {source.name}/images/\d.png: no such file$"
    with pytest.raises(OSError, match=wanted):
        Sampler((source,), small_config()).sample(0)


def test_where_all_is_damaged_it_ends_in_one_line(tmp_path: Path) -> None:
    source = opened("labels", tmp_path)
    for path in Path(source.name, "images").iterdir():
        truncate(path)
    wanted = rf"{TRIES} images in a row could not be used; the last was {source.name}/images/\d.png: PNG cannot be"
    with pytest.raises(ValueError, match=wanted):
        Sampler((source,), small_config()).sample(0)


def test_a_dead_source_among_others_ends_it_too(tmp_path: Path) -> None:
    dead, alive = opened("labels", tmp_path), opened("sa1b", tmp_path)
    shutil.rmtree(Path(dead.name) / "images")
    sampler = Sampler((dead, alive), small_config())
    with pytest.raises(OSError, match=rf"{dead.name}: {LAST} of the last {LAST} pictures could not be read; the"):
        sampler.batch(range(2 * LAST))
    assert {Path(place).parts[-3] for place in sampler.take_left_out()} == {"labelled"}


def test_half_may_be_unreadable_and_no_more() -> None:
    ledger = LeftOut()
    for number in range(3 * LAST):
        ledger.note("a", UnreadableError(f"{number}.png", "gone") if number % 2 else None)
        ledger.note("b", None)
    assert len(ledger.take()) == 3 * LAST // 2
    with pytest.raises(ValueError, match=rf"a: {LAST // 2 + 1} of the last {LAST} pictures .* was last.png: gone"):
        ledger.note("a", UnreadableError("last.png", "gone"))


def test_a_store_that_fails_is_no_bad_picture(
    tmp_path: Path, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAM_ENGINE_STORE_PATIENCE", "attempts=1 connect_seconds=1")
    client = boto3.client("s3")
    for seed in range(4):
        for kind, pixels in zip(("images", "labels"), picture(seed), strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "png")
            client.put_object(Bucket=bucket, Key=f"{kind}/{seed}.png", Body=buffer.getvalue())
    sources = open_sources((f"s3://{bucket}",), need_masks=True)
    sampler = Sampler(sources, small_config())
    place = sampler.describe(0)
    client.delete_object(Bucket=bucket, Key=place.removeprefix(f"s3://{bucket}/"))
    sampler.sample(0)
    assert sampler.take_left_out() == {place: "no such file"}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    cut_off = Sampler(sources, small_config())
    with pytest.raises(StoreError, match=rf"cannot read s3://{bucket}/.*png: EndpointConnectionError"):
        cut_off.sample(0)
    assert cut_off.take_left_out() == {}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN])
def test_what_fails_at_any_file_is_no_bad_picture(number: int) -> None:
    with pytest.raises(OSError) as failure, blamed_on("a.png"):
        raise OSError(number, "at any file", "a.png")
    assert failure.value.errno == number


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENAMETOOLONG])
def test_what_fails_at_one_file_is(number: int) -> None:
    with pytest.raises(UnreadableError, match=r"^a.png: at this file$"), blamed_on("a.png"):
        raise OSError(number, "at this file", "a.png")
