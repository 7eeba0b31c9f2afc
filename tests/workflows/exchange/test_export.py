"""What is exported is read back equal by the tools that the format is of."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from schemas.catalog import connect
from schemas.layout import annotations_key, images_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import IMAGES
from tests.schemas import rows as made
from tests.schemas.rows import discs
from tests.workflows.conftest import Engine
from tests.workflows.exchange.conftest import KINDS, SIZE, Masked, bitmap_of, contents, export
from tests.workflows.report.data_sets import DataSet, boxes, done, photos, run_record
from workflows.exchange.commands import ExportConfig
from workflows.exchange.selection import Selection
from workflows.exchange.target import RECORD_KEY
from workflows.exchange.writers import OWNED
from workflows.relate import relate_shards
from workflows.storage import LocalStore
from workflows.uris import UriReader

Row = dict[str, Any]


def by_id(masked: Masked) -> dict[str, dict[str, Any]]:
    return {row["mask_id"]: row for row in masked.masks.to_pylist()}


def licences_of(masked: Masked) -> dict[str, str | None]:
    """By image_id."""
    with connect(masked.root) as connection:
        return dict(connection.execute("SELECT image_id, licence FROM images").fetchall())


def same_picture(data: bytes, image_id: str, masked: Masked) -> bool:
    """By a reader that does not look at EXIF."""
    return np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), masked.images[image_id])


def test_sa1b_as_the_released_readme_reads_it(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    export(engine, masked, tmp_path / "out", "sa1b")
    documents = sorted((tmp_path / "out").glob("*.json"))
    assert [path.name for path in documents] == ["sa_1.json", "sa_2.json", "sa_3.json", "sa_4.json"]
    rows = masked.masks.to_pylist()
    numbers = []
    for number, path in enumerate(documents, start=1):
        document = json.loads(path.read_text())
        image = document["image"]
        assert (image["image_id"], image["height"], image["width"]) == (number, *SIZE)
        image_id = sorted(masked.images)[number - 1]
        assert same_picture((tmp_path / "out" / image["file_name"]).read_bytes(), image_id, masked)
        for annotation in document["annotations"]:
            row = rows[len(numbers)]
            assert row["image_id"] == image_id
            assert np.array_equal(coco_mask.decode(annotation["segmentation"]), bitmap_of(row))
            assert annotation["bbox"] == [row[f"bbox_{side}"] for side in "xywh"]
            assert annotation["crop_box"] == [row[f"crop_{side}"] for side in "xywh"]
            assert annotation["point_coords"] == [[row["point_x"], row["point_y"]]]
            for name in ("area", "predicted_iou", "stability_score"):
                assert annotation[name] == row[name]
            numbers.append(annotation["id"])
    assert numbers == list(range(1, len(rows) + 1))


def test_coco_by_pycocotools(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    export(engine, masked, tmp_path / "out", "coco")
    read = COCO(str(tmp_path / "out" / "instances.json"))
    rows = by_id(masked)
    assert len(read.anns) == len(rows)
    assert len(read.imgs) == len(masked.images)
    for annotation in read.anns.values():
        row = rows[annotation["mask_id"]]
        assert np.array_equal(read.annToMask(annotation), bitmap_of(row))
        assert (annotation["area"], annotation["stage"]) == (row["area"], "automatic")
        assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
        assert annotation["crop_box"] == [row[f"crop_{side}"] for side in "xywh"]
    stated, names = licences_of(masked), {licence["id"]: licence["name"] for licence in read.dataset["licenses"]}
    for image in read.imgs.values():
        image_id = sorted(masked.images)[image["id"] - 1]
        assert same_picture((tmp_path / "out" / "images" / image["file_name"]).read_bytes(), image_id, masked)
        assert names.get(image.get("license")) == stated[image_id]
    assert [category["name"] for category in read.cats.values()] == ["object"]
    assert set(names.values()) == {"CC0 1.0", "CC BY 4.0", "All rights reserved"}


def test_lvis_has_what_its_tools_ask_for(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    export(engine, masked, tmp_path / "out", "lvis", "--no-pictures")
    document = json.loads((tmp_path / "out" / "lvis.json").read_text())
    assert not (tmp_path / "out" / "images").exists()
    rows = by_id(masked)
    for image in document["images"]:
        assert image["neg_category_ids"] == []
        assert image["not_exhaustive_category_ids"] in ([1], [])
    assert {image["coco_url"] for image in document["images"]} == {"a.png", "b.jpg", "c.jpg", "d.webp"}
    (category,) = document["categories"]
    assert (category["frequency"], category["image_count"], category["instance_count"]) == ("r", 3, len(rows))
    lvis = pytest.importorskip("lvis")
    read = lvis.LVIS(str(tmp_path / "out" / "lvis.json"))
    for annotation in read.anns.values():
        assert np.array_equal(read.ann_to_mask(annotation), bitmap_of(rows[annotation["mask_id"]]))


def read_by_datasets(folder: Path, masked: Masked) -> Iterator[tuple[Row, Row, Row]]:
    """Image, mask and our row of each mask that `datasets` reads from an export: all images and masks, each once."""
    datasets = pytest.importorskip("datasets")
    read = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))
    rows = by_id(masked)
    assert len(read) == len(masked.images)
    for entry in read:
        assert np.array_equal(np.asarray(entry["image"].convert("RGB")), masked.images[entry["image_id"]])
        for mask in entry["masks"]:
            yield entry, mask, rows.pop(mask["mask_id"])
    assert not rows


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_offline")
def test_huggingface_by_datasets(
    engine: Engine, masked: Masked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.exchange.writers.huggingface._ROWS_TOGETHER", 2)
    export(engine, masked, tmp_path / "out", "huggingface", "--images-per-file", "3")
    assert len(list((tmp_path / "out" / "data").iterdir())) == 2
    stated = licences_of(masked)
    for entry, mask, row in read_by_datasets(tmp_path / "out", masked):
        assert entry["licence"] == stated[row["image_id"]]
        rle = {"size": [entry["height"], entry["width"]], "counts": mask["counts"]}
        assert np.array_equal(coco_mask.decode(rle), bitmap_of(row))
        for name in ("area", "predicted_iou", "stability_score", "stage", "annotator", "run_id", "model_id"):
            assert mask[name] == row[name]
        for box in ("bbox", "crop"):
            assert mask["crop_box" if box == "crop" else box] == [row[f"{box}_{side}"] for side in "xywh"]
        assert mask["point"] == [row["point_x"], row["point_y"]]


@pytest.mark.usefixtures("_offline")
def test_imagefolder_by_datasets(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    export(engine, masked, tmp_path / "out", "imagefolder")
    for _, mask, row in read_by_datasets(tmp_path / "out", masked):
        assert mask["counts"].encode() == row["rle"]
        assert np.float32(mask["predicted_iou"]) == np.float32(row["predicted_iou"])


def test_webdataset_by_webdataset(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    export(engine, masked, tmp_path / "out", "webdataset", "--images-per-file", "2")
    shards = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    assert len(shards) == 2
    rows = by_id(masked)
    for sample in webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"):
        picture = next(sample[kind] for kind in ("jpg", "png") if kind in sample)
        assert np.array_equal(picture, masked.images[sample["__key__"]])
        for annotation in sample["json"]["annotations"]:
            row = rows.pop(annotation["mask_id"])
            assert np.array_equal(coco_mask.decode(annotation["segmentation"]), bitmap_of(row))
            assert (annotation["category"], annotation["predicted_iou"]) == ("object", row["predicted_iou"])
    assert not rows


def test_label_pngs_hold_every_mask_in_some_layer(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    export(engine, masked, tmp_path / "out", "labels")
    assert (tmp_path / "out" / "labels-2").is_dir()  # the discs overlap
    rows = by_id(masked)
    for image_id in masked.images:
        with (tmp_path / "out" / "masks" / f"{image_id}.csv").open() as file:
            for said in csv.DictReader(file):
                folder = "labels" if said["layer"] == "1" else f"labels-{said['layer']}"
                labels = cv2.imread(str(tmp_path / "out" / folder / f"{image_id}.png"), cv2.IMREAD_UNCHANGED)
                assert np.array_equal(labels == int(said["label"]), bitmap_of(rows.pop(said["mask_id"])))
    assert not rows


def test_a_condition_chooses_masks(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    export(engine, masked, tmp_path / "out", "coco", "--where", "area > 100", "--no-pictures")
    document = json.loads((tmp_path / "out" / "instances.json").read_text())
    expected = {row["mask_id"] for row in masked.masks.to_pylist() if row["area"] > 100}
    assert {annotation["mask_id"] for annotation in document["annotations"]} == expected


def test_licences_choose_images(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    export(engine, masked, tmp_path / "out", "coco", "--licences", "cc0*", "cc by *", "--no-pictures")
    document = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert sorted(image["file_name"] for image in document["images"]) == ["a.png", "b.jpg"]
    masked = replace(masked, root=shutil.copytree(masked.root, tmp_path / "data"))
    store, free = LocalStore(masked.root), "FROM images SELECT image_id, content_sha256 WHERE licence = 'CC0 1.0'"
    with connect(masked.root) as connection:
        (row,) = connection.sql(free).to_arrow_table().to_pylist()
    elsewhere = {"uri": "elsewhere.png", "licence": "All rights reserved", "ingested_at": made.NAIVE_START}
    table = pa.Table.from_pylist([row | elsewhere], schema=IMAGES)
    store.put(images_key("elsewhere"), to_parquet_bytes(table))
    export(engine, masked, tmp_path / "fewer", "coco", "--licences", "cc0*", "cc by *", "--no-pictures")
    document = json.loads((tmp_path / "fewer" / "instances.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["b.jpg"]  # no other place may say otherwise
    refused = engine("export", masked.root, tmp_path / "none", "--format", "coco", "--licences", "MIT")
    assert refused.status == 2
    assert "no image has a licence like MIT; stated are: All rights reserved, CC BY 4.0, CC0 1.0" in refused.err


def failing_at(name: str) -> Callable[[UriReader, str], bytes]:
    """A network file system that fails at one picture."""
    read = UriReader.read

    def failing(reader: UriReader, uri: str) -> bytes:
        if uri.endswith(name):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), uri)
        return read(reader, uri)

    return failing


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_that_was_broken_off_goes_on(
    engine: Engine, masked: Masked, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(engine, masked, tmp_path / "whole", kind, "--images-per-file", "1")
    whole = contents(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(UriReader, "read", failing_at("b.jpg"))
        broken = engine("export", masked.root, tmp_path / "out", "--format", kind, "--images-per-file", "1")
    assert broken.status == 2
    assert "Stale file handle" in broken.err
    begun = contents(tmp_path / "out")
    assert begun.keys() < whole.keys()
    monkeypatch.chdir(masked.root)
    done = engine("export", "./", tmp_path / "out", "--format", kind, "--images-per-file", "1")
    assert (done.status, done.err.count("another")) == (0, 0), done.err
    assert contents(tmp_path / "out") == whole
    assert not list((tmp_path / "out").rglob("*.tmp"))
    owned = {key for key in whole if OWNED.fullmatch(key)}
    assert whole.keys() - owned == {RECORD_KEY}  # what a later export of something else takes away


@pytest.mark.parametrize("distinct", [False, True])
def test_a_page_opens_the_files_of_its_own_images_alone(
    tmp_path: Path, opened_files: list[str], distinct: bool
) -> None:
    """If each page opened all, time would grow with the square of the data set."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    for shard, image_id in enumerate(sorted(data.add_images(photos(tmp_path / "photos", 3, rng=rng)))):
        data.add_run([done(image_id, boxes((24, 36), 2, rng=rng), rng=rng)], run_record("one"), shard)
        if distinct:
            relate_shards(
                str(data.root), 0.9, 0.999, pa.table({"run_id": [run_record("one").run_id], "shard": [shard]})
            )
    selection = Selection(ExportConfig(str(data.root), "out", "coco", distinct=distinct))
    for number, page in enumerate(selection.pages(1)):
        opened_files.clear()
        assert [len(image.masks) for image in selection.load(page)] == [2]
        assert {path[-9] for path in opened_files if "/shard-" in path} == {str(number)}


def test_conditions_that_are_none_are_refused_in_one_line(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    finished = engine("export", masked.root, tmp_path / "out", "--format", "coco", "--where", "nonsense > 1")
    assert finished.status == 2
    assert "nonsense" in finished.err
    assert finished.err.strip().count("\n") == 0
    with pytest.raises(ValueError, match="--images-per-file is 0; it must be positive"):
        ExportConfig("d", "o", "coco", images_per_file=0)
    with pytest.raises(ValueError, match="--where is empty; it must be a condition"):
        ExportConfig("d", "o", "coco", where=" ")
    with pytest.raises(ValueError, match="--no-pictures: webdataset has masks in or beside its pictures"):
        ExportConfig("d", "o", "webdataset", pictures=False)


def test_images_without_masks_are_images_too(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    export(engine, masked, tmp_path / "out", "coco", "--where", "area > 100000", "--no-pictures")
    document = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert (len(document["images"]), document["annotations"]) == (4, [])


def test_names_without_pictures_tell_files_apart(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    """Pictures of one name in several folders, as an import finds them again."""
    photos, root, back = tmp_path / "photos", tmp_path / "dataset", tmp_path / "back"
    for letter in "abc":
        found = next(masked.photos.glob(f"{letter}.*"))
        (photos / letter).mkdir(parents=True)
        shutil.copy(found, photos / letter / f"image{found.suffix}")
    assert engine("ingest", photos, root).status == 0
    for table in ("masks", "outcomes", "runs"):
        shutil.copytree(masked.root / table, root / table)
    assert engine("export", root, tmp_path / "out", "--format", "coco", "--no-pictures").status == 0
    document = json.loads((tmp_path / "out" / "instances.json").read_text())
    names = sorted(image["file_name"] for image in document["images"])
    assert names == ["a/image.png", "b/image.jpg", "c/image.jpg"]
    assert engine("import", tmp_path / "out" / "instances.json", back, "--image-folder", photos).status == 0


@pytest.mark.parametrize("kind", ["coco", "labels"])
def test_images_of_unknown_size_are_left_out_and_said(
    engine: Engine, masked: Masked, tmp_path: Path, kind: str
) -> None:
    """Named by its hash in a list, done without masks, and gone before anybody noted its size."""
    root = shutil.copytree(masked.root, tmp_path / "dataset")
    store = LocalStore(root)
    with connect(root) as connection:
        empty = "image_id NOT IN (SELECT image_id FROM masks)"
        known = connection.sql(f"SELECT * REPLACE (uris[1] AS uri) FROM images WHERE {empty}").to_arrow_table()
        others = connection.sql(f"SELECT uri, * EXCLUDE (uri) FROM images WHERE NOT ({empty})").to_arrow_table()
    rows = [
        {name: row[name] for name in ("image_id", "uri", "content_sha256", "ingested_at")} for row in known.to_pylist()
    ]
    rows += [{name: row.get(name) for name in IMAGES.names} for row in others.to_pylist()]
    for entry in list(store.list("images")):
        store.delete(entry.key)
    store.put(images_key("stated"), to_parquet_bytes(pa.Table.from_pylist(rows, schema=IMAGES)))
    done = engine("export", root, tmp_path / "out", "--format", kind, "--no-pictures")
    assert (done.status, "3 images" in done.out) == (1, True), done.err
    assert "left out: 1 images without masks, of which nobody knows the size" in done.err


def test_what_stands_after_the_at_sign(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    for name, message in (
        ("@x y", "has no run 'x y'"),
        ("@none", "has no run 'none'"),
        ("@annotations", "nothing to export"),
    ):
        refused = engine("export", f"{masked.root}{name}", tmp_path / "out", "--format", "coco")
        assert refused.status == 2
        assert message in refused.err
    assert engine("export", f"{masked.root}@first", tmp_path / "out", "--format", "coco").status == 0


def test_a_run_has_the_images_that_it_has_done(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    """Not those without masks that another one has."""
    root = shutil.copytree(masked.root, tmp_path / "dataset")
    image = masked.masks["image_id"][0].as_py()
    DataSet(root).add_run([done(image, [], rng=np.random.default_rng(0))], run_record("second", minute=5))
    for run, images in (("first", 4), ("second", 1)):
        assert engine("export", f"{root}@{run}", tmp_path / run, "--format", "coco", "--no-pictures").status == 0
        assert len(json.loads((tmp_path / run / "instances.json").read_text())["images"]) == images


def test_into_an_object_store(engine: Engine, masked: Masked, bucket: str) -> None:
    import boto3

    boto3.client("s3").put_object(Bucket=bucket, Key="coco/")  # as a console makes a folder
    for kind in ("coco", "webdataset"):
        export(engine, masked, f"s3://{bucket}/{kind}", kind)
        export(engine, masked, f"s3://{bucket}/{kind}", kind)
    client = boto3.client("s3")
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert {"coco/instances.json", "webdataset/train-000000.tar"} < set(keys)
    document = json.loads(client.get_object(Bucket=bucket, Key="coco/instances.json")["Body"].read())
    assert len(document["annotations"]) == len(masked.masks)


def test_what_a_person_says_replaces_the_mask(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    """A corrected mask, a deleted one and an audited one, over a copy of the data set's tables."""
    root = tmp_path / "dataset"
    shutil.copytree(masked.root, root)
    first, second, third, *_ = masked.masks.to_pylist()
    bitmap = discs(1, height=SIZE[0], width=SIZE[1], seed=99)[0]
    common = {"image_id": first["image_id"]}
    said = [
        made.annotation("mine", 1, bitmap_of(first), source_mask_id=first["mask_id"], **common),
        made.annotation("mine", 2, bitmap, source_mask_id=first["mask_id"], **common),
        made.annotation("gone", 1, bitmap_of(second), source_mask_id=second["mask_id"], deleted=True, **common),
        made.annotation("checked", 1, bitmap, source_mask_id=third["mask_id"], **common, stage="audit"),
    ]
    made.put(root, annotations_key("s1", 1), pa.concat_tables(said))
    assert engine("export", root, tmp_path / "out", "--format", "coco", "--no-pictures").status == 0
    read = COCO(str(tmp_path / "out" / "instances.json"))
    found = {annotation["mask_id"]: annotation for annotation in read.anns.values()}
    expected = {row["mask_id"] for row in masked.masks.to_pylist()} - {first["mask_id"], second["mask_id"]}
    assert found.keys() == expected | {"mine"}
    assert np.array_equal(read.annToMask(found["mine"]), bitmap)
    assert found["mine"]["annotator"] == "ada"
    assert engine("export", f"{root}@masks", tmp_path / "alone", "--format", "coco", "--no-pictures").status == 0
    alone = COCO(str(tmp_path / "alone" / "instances.json"))  # in which nothing of a person's stands for a mask
    assert {entry["mask_id"] for entry in alone.anns.values()} == set(by_id(masked))
    refused = engine("export", root, tmp_path / "sa1b", "--format", "sa1b")
    assert refused.status == 2
    assert "1 of those chosen were drawn by people and lack them" in refused.err
    assert not (tmp_path / "sa1b").exists()
