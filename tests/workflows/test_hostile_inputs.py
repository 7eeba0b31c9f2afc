"""Files, manifests and names from people who mean harm: the run ends, says so, and touches nothing but its data set."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask

from sam_core.masks.rle import decode
from schemas import coco, sa1b
from tests.benchmarks import hostile
from tests.workflows import fakes
from tests.workflows.conftest import Engine, save_photos
from tests.workflows.planned import plan, planned
from workflows.labels import decode_labels
from workflows.shard_worker import ShardWorker
from workflows.sources import list_images
from workflows.sql import connect
from workflows.storage import LocalStore, TooLargeError
from workflows.train.file_rows import file_rows
from workflows.uris import UriReader

DEEP = 900 if sys.version_info < (3, 12) else 100_000
"""Brackets that are too much for JSON in Python; from 3.12 on its C code has a stack of its own to fill."""
SECRET = "wJalrXUtnFEMIsecretEXAMPLEKEY"
SIGNED = f"https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F2026&X-Amz-Signature={SECRET}"


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def parquet(path: Path, uris: Any, **columns: Any) -> Path:
    pq.write_table(pa.table({"uri": uris, **columns}), path)
    return path


def coco_json(path: Path, images: Any, **rest: Any) -> Path:
    path.write_text(json.dumps({"images": images, **rest}))
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_over_hostile_images_ends_with_a_row_for_each(
    cluster: str, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    hostile.write_hostile(tmp_path / "images", images=14, seed=1)
    verdict = hostile.run_over(tmp_path / "images", tmp_path, model=str(tiny_checkpoint), limit=560)
    assert verdict.sound, verdict
    assert verdict.files >= 50
    assert (verdict.exit_status, verdict.crashed, verdict.outside) == (1, 0, [])
    assert set(verdict.errors) >= {"Damaged", "Empty", "NotAnImage", "TooManyPixels"}


def bomb(name: str) -> Callable[[Path], Path]:
    """Writes one of the manifests below into a folder."""

    def write(folder: Path) -> Path:
        whole = parquet(folder / "whole.parquet", [f"{number}.png" for number in range(50_000)]).read_bytes()
        (folder / "whole.parquet").unlink()
        path = folder / f"{name}.parquet"
        footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        broken = {
            "truncated": whole[:-200],
            "footer": whole[:footer] + b"\xff" * 64 + whole[footer + 64 :],
            "footer-length": whole[:-8] + b"\xff\xff\xff\x7f" + whole[-4:],
            "pages": whole[:40] + b"\xff" * 5000 + whole[5040:],
            "empty": b"",
            "magic": b"PAR1PAR1",
        }
        path.write_bytes(broken[name])
        return path

    return write


def json_text(text: str | bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "instances.json"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def symbolic_link(folder: Path) -> Path:
    (folder / "link.png").symlink_to("/etc/hostname")
    return coco_json(folder / "instances.json", [{"file_name": "link.png"}])


def linked_folder(folder: Path) -> Path:
    (folder / "link").symlink_to("/etc")
    return coco_json(folder / "instances.json", [{"file_name": "link/hostname"}])


MANIFESTS: dict[str, Callable[[Path], Path]] = {
    **{f"parquet-{name}": bomb(name) for name in ("truncated", "footer", "footer-length", "pages", "empty", "magic")},
    "parquet-numbers": lambda f: parquet(f / "m.parquet", [1, 2]),
    "parquet-lists": lambda f: parquet(f / "m.parquet", [["a.png"]]),
    "parquet-null": lambda f: parquet(f / "m.parquet", pa.array([None], pa.string())),
    "parquet-nul": lambda f: parquet(f / "m.parquet", ["a\0.png"]),
    "parquet-not-utf8": lambda f: parquet(f / "m.parquet", pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())),
    "parquet-file-scheme": lambda f: parquet(f / "m.parquet", ["file:///etc/passwd"]),
    "parquet-link-local": lambda f: parquet(f / "m.parquet", ["http://169.254.169.254/latest/meta-data/"]),
    "parquet-loopback": lambda f: parquet(f / "m.parquet", ["http://[::1]:8265/api/jobs/"]),
    "parquet-signed": lambda f: parquet(f / "m.parquet", [SIGNED]),
    "parquet-userinfo": lambda f: parquet(f / "m.parquet", [f"s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@bucket/a.jpg"]),
    "coco-deep": json_text('{"images": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "coco-deep-metadata": json_text('{"images": [{"file_name": "a.png", "x": ' + "[" * DEEP + "]" * DEEP + "}]}"),
    "coco-digits": json_text('{"images": [{"file_name": "a.png", "id": ' + "9" * 10_000 + "}]}"),
    "coco-numbers": json_text('{"images": [1, 2]}'),
    "coco-name-number": json_text('{"images": [{"file_name": 5}]}'),
    "coco-name-list": json_text('{"images": [{"file_name": ["a.png"]}]}'),
    "coco-name-empty": json_text('{"images": [{"file_name": ""}]}'),
    "coco-name-surrogate": json_text('{"images": [{"file_name": "\\ud800.png"}]}'),
    "coco-name-nul": json_text('{"images": [{"file_name": "a\\u0000.png"}]}'),
    "coco-traversal": json_text('{"images": [{"file_name": "../../etc/passwd"}]}'),
    "coco-absolute": json_text('{"images": [{"file_name": "/etc/passwd"}]}'),
    "coco-scheme": json_text('{"images": [{"file_name": "file:///etc/passwd"}]}'),
    "coco-licences": json_text('{"images": [{"file_name": "a.png"}], "licenses": 5}'),
    "coco-document-list": json_text("[]"),
    "coco-not-utf8": json_text(b'{"images": [{"file_name": "\xff\xfe"}]}'),
    "coco-utf16-half": json_text(b"\xff\xfe{"),
    "coco-link": symbolic_link,
    "coco-linked-folder": linked_folder,
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_hostile_manifests_are_refused_in_one_line(engine: Engine, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").mkdir()
    source = MANIFESTS[name](tmp_path / "source")
    before = tree(tmp_path)
    done = engine("ingest", source, tmp_path / "data")
    assert (done.status, done.out) == (2, ""), done.err
    assert len(done.err.splitlines()) == 1
    assert len(done.err) < 1000
    assert source.name in done.err or "manifest" in done.err or "://***@" in done.err
    assert SECRET not in done.err
    assert {name: data for name, data in tree(tmp_path).items() if not name.startswith("data/")} == before


def test_manifests_with_odd_values_cost_those_rows_alone(engine: Engine, tmp_path: Path) -> None:
    """Names too long for any disk, folders, devices, what is gone; metadata of NaN, half characters, signed links."""
    (photo,) = save_photos(tmp_path / "photos", 1)
    uris = [str(photo), "x" * 5_000_000, "/dev/zero", str(tmp_path), "gone.png", "../" * 200 + "etc/hostname"]
    source = parquet(tmp_path / "m.parquet", uris, score=[float("nan")] * 6, link=[SIGNED] * 6)
    done = engine("ingest", source, tmp_path / "data")
    assert done.status == 1, done.err
    rows = connect(str(tmp_path / "data")).execute("SELECT uri, format, metadata FROM images").fetchall()
    assert len(rows) == 6
    assert [uri for uri, format_, _ in rows if format_] == [str(photo)]
    assert all(json.loads(metadata)["score"] is None for _, _, metadata in rows)
    assert all(SECRET not in metadata and "AKIA" not in metadata for _, _, metadata in rows)
    (reference,) = list_images(str(json_text(json.dumps({"images": [{"file_name": "x" * 5000}]}))(tmp_path)))
    assert reference.stamp == ""
    document = json_text('{"images": [{"file_name": "photos/photo-000.png", "x": "\\ud800", "y": NaN, "license": []}]}')
    (reference,) = list_images(str(document(tmp_path)))
    assert json.loads(reference.metadata)["x"] == "?"


def test_a_file_too_large_is_not_read(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = tmp_path / "large.png"
    sparse.touch()
    os.truncate(sparse, 1 << 40)
    with pytest.raises(TooLargeError, match="more than the limit"):
        UriReader().read(str(sparse))
    boto3.client("s3").put_object(Bucket=bucket, Key="large.png", Body=bytes(101))
    reader = UriReader(max_bytes=100)
    monkeypatch.setattr("botocore.response.StreamingBody.read", lambda *_: pytest.fail("read"))
    with pytest.raises(TooLargeError, match="101 bytes are more than the limit of 100 bytes"):
        reader.read(f"s3://{bucket}/large.png")


def test_a_file_too_large_is_an_error_row(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "data")
    image = planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))
    (task,) = plan(store, [image], shard_size=1)
    os.truncate(image.uri, 1 << 40)
    ShardWorker(fakes.shard_job(store.root)).work(task)
    assert connect(store.root).execute("SELECT error_class FROM outcomes").fetchall() == [("TooManyBytes",)]


@pytest.mark.parametrize("link", ["masks", "plans/run=x", "dataset"])
def test_a_data_set_with_links_cannot_write_elsewhere(tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "data"
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(elsewhere)
    store = LocalStore(root)
    for write in (lambda: store.put(f"{link}/x", b""), lambda: store.put_if_absent(f"{link}/y/x", b"")):
        with pytest.raises(ValueError, match=r"would leave .* through a symbolic link"):
            write()
    assert not list(elsewhere.iterdir())


def test_a_data_set_behind_a_link_is_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    LocalStore(tmp_path / "data").put("masks/x", b"1")
    assert (tmp_path / "disk" / "masks" / "x").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".hidden", "-x", "a\nb", "", "x" * 200, "a\0b", "é"])
def test_run_names_are_no_paths(engine: Engine, photos: Path, tmp_path: Path, tiny_checkpoint: Path, name: str) -> None:
    done = engine("generate", photos, tmp_path / "data", "--model", tiny_checkpoint, f"--run={name}")
    assert done.status == 2
    assert len(done.err.splitlines()[-1:]) == 1
    assert not (tmp_path / "data" / "runs").exists()


RLES = [b"", b"5", b"P", b"o" * 30, b"0" * 100_000, b"\xff\x00", b"O", b"oooooo?", b"_____0", b"[]" * 20, b"-1"]


@pytest.mark.parametrize("counts", RLES)
def test_hostile_run_lengths_never_reach_pycocotools(counts: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for function in ("decode", "area", "toBbox", "merge", "frPyObjects"):
        monkeypatch.setattr(coco_mask, function, lambda *_: pytest.fail("unchecked counts"))
    with pytest.raises(ValueError, match=r"rle|RLE"):
        coco.rle_of(coco.CompressedRle((480, 640), counts.decode("latin-1")), height=480, width=640)
    with pytest.raises(ValueError, match="run lengths"):
        decode(counts, (480, 640))


@pytest.mark.parametrize("counts", [[-1, 307201], [2**40], [0] * 9, [307200.5], ["307200"], [float("nan")], 5, {}])
def test_hostile_plain_counts(counts: Any) -> None:
    entry = {"id": 1, "image_id": 1, "category_id": 1, "area": 1, "bbox": [0, 0, 1, 1]}
    entry["segmentation"] = {"size": [480, 640], "counts": counts}
    text = json.dumps({"images": [], "annotations": [entry]})
    with pytest.raises(ValueError, match=r"counts|RLE"):
        coco.rle_of(coco.from_json(text, where="x").annotations[0].segmentation, height=480, width=640)


@pytest.mark.parametrize("size", [[2**31, 2**31], [-1, 5], [0, 0], [1e308, 2], ["1", 2], [None, None], [1], 7])
def test_hostile_sizes(size: Any) -> None:
    segmentation = {"size": size, "counts": "52203"}
    entry = {"id": 1, "segmentation": segmentation, "bbox": [0, 0, 1, 1], "area": 1, "predicted_iou": 1}
    entry |= {"stability_score": 1, "crop_box": [0, 0, 1, 1], "point_coords": [[0, 0]]}
    image = {"image_id": 1, "width": 640, "height": 480, "file_name": "a.jpg"}
    text = json.dumps({"image": image, "annotations": [entry]})

    def counts() -> bytes:
        (found,) = sa1b.from_json(text, where="x").annotations
        height, width = found.segmentation.size
        return coco.rle_of(coco.CompressedRle((height, width), found.segmentation.counts), height=height, width=width)

    with pytest.raises(ValueError, match=r"size|32 bits"):
        counts()


@pytest.mark.parametrize(("size", "turns"), [((14_000, 14_000), 500), ((100, 40_000_000), 4), ((1, 2**32 - 1), 3)])
def test_polygons_that_go_to_and_fro_never_reach_pycocotools(
    size: tuple[int, int], turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes memory for every pixel of an outline, and where there is none writes all the same (SIGSEGV)."""
    monkeypatch.setattr(coco_mask, "frPyObjects", lambda *_: pytest.fail("drawn"))
    height, width = size
    polygon = (-float(width), 1.0, 2.0 * width, 0.5) * turns
    with pytest.raises(ValueError, match=r"a polygon (has an outline of more than 10,000,000 px|.* lies far outside)"):
        coco.rle_of((polygon,), height=height, width=width)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/x.png", "a/../../x.png", "..", "", "a\0.png"])
def test_a_document_of_sa1b_names_a_picture_beside_it_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / "sa_1.json"
    path.write_text(json.dumps({"image": {"file_name": name}, "annotations": []}))
    with pytest.raises(ValueError, match=r"sa_1.json: file_name .* is not the name of a picture beside it"):
        list(file_rows(str(path)))


def test_label_images_are_held_to_a_limit_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=r"a\.png: 30000 x 30000 px is more than the limit of 200,000,000 px"):
        decode_labels(hostile.bombs()["png-30000-squared.png"], "a.png")


def test_random_polygons_are_drawn_or_refused() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        polygon = tuple(random.choice([-1e308, -1.0, 0.0, 0.5, 63.9, 64.0, 1e9, 1e308], int(random.integers(0, 12))))
        try:
            counts = coco.rle_of((polygon,), height=48, width=64)
        except ValueError:
            continue
        assert decode(counts, (48, 64)).shape == (48, 64)
