"""What DuckDB counts against numpy over the same rows, for data sets of ours and for COCO files."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas import layout
from schemas.tables import IMAGES as IMAGES_TABLE
from tests.workflows.audit.conftest import IMAGES, LICENCES, Audited
from tests.workflows.report.data_sets import DataSet
from workflows.audit import counts
from workflows.audit.examine import examine
from workflows.audit.licences import licences
from workflows.audit.reference import open_coco
from workflows.audit.subject import Subject, open_data_set

SQUARES = ((10, 10, 20, 20), (30, 5, 10, 10), (0, 0, 64, 48))


@pytest.fixture(scope="module")
def subject(audited: Audited) -> Subject:
    return open_data_set(f"{audited.root}@first")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two images; the first has three squares and a crowd, the second none; as in LVIS, without file names."""
    images = [
        {"id": 1, "coco_url": "http://images.cocodataset.org/val2017/1.jpg", "width": 64, "height": 48, "license": 4},
        {"id": 2, "coco_url": "http://images.cocodataset.org/val2017/2.jpg", "width": 64, "height": 48},
    ]
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "area": w * h, "bbox": [x, y, w, h]}
        | {"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}
        for n, (x, y, w, h) in enumerate(SQUARES)
    ]
    crowd = {"id": 9, "image_id": 1, "category_id": 1, "area": 6, "bbox": [0, 0, 2, 3], "iscrowd": 1}
    annotations.append(crowd | {"segmentation": {"size": [48, 64], "counts": [0, 6, 48 * 64 - 6]}})
    path = tmp_path / "instances.json"
    licence = {"id": 4, "name": "Attribution License"}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [], "licenses": [licence]}))
    return path


def test_totals_and_buckets(subject: Subject) -> None:
    per_image = np.array([row["n_masks"] for row in subject.rows("SELECT n_masks FROM audit_images")], int)
    found = counts.totals(subject)
    assert (found.images, found.masks) == (IMAGES - 1, per_image.sum())
    assert (found.masks_per_image, found.median_masks_per_image) == (per_image.mean(), np.median(per_image))
    assert found.small + found.medium + found.large == found.masks
    np.testing.assert_array_equal(counts.buckets(subject).values[:2], [(per_image <= 10).sum(), (per_image > 10).sum()])


def test_sizes_and_places(subject: Subject) -> None:
    rows = subject.rows("SELECT area, height, width, bbox_x, bbox_y, bbox_w, bbox_h FROM audit_masks")
    area, height, width, x, y, w, h = (np.array([row[name] for row in rows], float) for name in rows[0])
    sizes = np.sqrt(area / (height * width))
    edges = counts.RELATIVE_SIZES.edges
    expected = np.histogram(sizes, edges)[0]
    np.testing.assert_array_equal(counts.relative_sizes(subject).values, expected)
    centre_x, centre_y = (x + w / 2) / width, (y + h / 2) / height
    rings = np.maximum(abs(2 * centre_x - 1), abs(2 * centre_y - 1)) ** 2
    np.testing.assert_array_equal(counts.rings(subject).values, np.histogram(rings, 10, (0, 1))[0])
    grid = np.histogram2d(centre_y, centre_x, 32, [[0, 1], [0, 1]])[0]
    np.testing.assert_array_equal(counts.centres(subject).values.reshape(32, 32), grid)
    assert counts.totals(subject).border == pytest.approx(rings.mean())


def test_the_median_of_many_sizes_is_exact(coco: Path) -> None:
    areas = np.random.default_rng(4).integers(1, 64 * 48, 5001)
    square = {"image_id": 2, "category_id": 1, "bbox": [0, 0, 1, 1], "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]}
    document = json.loads(coco.read_text())
    document["annotations"] = [square | {"id": n, "area": area} for n, area in enumerate(areas.tolist())]
    coco.write_text(json.dumps(document))
    found = counts.totals(open_coco(str(coco))).median_relative_size
    assert found == pytest.approx(np.sqrt(np.median(areas) / (64 * 48)), abs=1e-6)


def test_evenly_spread_masks_have_no_bias(coco: Path) -> None:
    document = json.loads(coco.read_text())
    places = np.random.default_rng(0).random((5000, 2)) * [64, 48]
    square = {"image_id": 2, "category_id": 1, "area": 1, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]}
    document["annotations"] = [
        square | {"id": n, "bbox": [x - 0.5, y - 0.5, 1, 1]} for n, (x, y) in enumerate(places.tolist())
    ]
    coco.write_text(json.dumps(document))
    subject = open_coco(str(coco))
    np.testing.assert_allclose(counts.rings(subject).values / 5000, 0.1, atol=0.015)
    assert counts.totals(subject).border == pytest.approx(0.5, abs=0.015)


def test_size_classes_are_those_of_coco(coco: Path) -> None:
    document = json.loads(coco.read_text())
    entry, areas = document["annotations"][0], (1023, 1024, 9215, 9216, 9217)
    document["annotations"] = [entry | {"id": n, "area": area} for n, area in enumerate(areas)]
    coco.write_text(json.dumps(document))
    found = counts.totals(open_coco(str(coco)))
    assert (found.small, found.medium, found.large, found.repeated_files) == (1, 2, 2, 0)


def test_sql_that_is_shown_can_be_asked_again(subject: Subject) -> None:
    for found in (counts.buckets(subject), counts.relative_sizes(subject), counts.rings(subject)):
        assert sum(int(str(row["times"])) for row in subject.rows(found.sql)) == found.values.sum()


def test_a_licence_rule_leaves_images_out(audited: Audited) -> None:
    one = open_data_set(f"{audited.root}@first", licences=["cc by 4*"])
    allowed = sum(LICENCES[number % 4] == "CC BY 4.0" for number in range(IMAGES - 1))
    assert counts.totals(one).images == allowed
    assert counts.totals(one).masks == counts.relative_sizes(one).values.sum()
    assert {licence.name: licence.allowed for licence in licences(one, ["cc by 4*"])} == {
        "CC BY 4.0": True,
        "CC BY-NC 4.0": False,
        "none stated": False,
    }
    assert sum(licence.images for licence in licences(one, ["cc by 4*"])) == IMAGES - 1


def test_a_copy_under_another_licence_leaves_an_image_out(audited: Audited, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(audited.root, root)
    allowed = counts.totals(open_data_set(f"{root}@first", licences=["cc by 4*"])).images
    (path,) = (root / "images").glob("*.parquet")
    first = pq.read_table(path).slice(0, 1).to_pylist()[0]
    assert first["licence"] == "CC BY 4.0"
    copy = pa.Table.from_pylist(
        [first | {"uri": "/zz/copy.jpg", "licence": "All rights reserved"}], schema=IMAGES_TABLE
    )
    pq.write_table(copy, root / layout.images_key("copy"))
    one = open_data_set(f"{root}@first", licences=["cc by 4*"])
    assert counts.totals(one).images == allowed - 1
    assert counts.totals(open_data_set(f"{root}@first")).repeated_files == 1
    assert first["image_id"] not in {row["image_id"] for row in one.rows("SELECT image_id FROM audit_images")}
    shown = licences(one, ["cc by 4*"])
    assert sum(licence.images for licence in shown if licence.allowed) == allowed - 1
    assert [licence.images for licence in shown if " and CC BY 4.0" in licence.name] == [1]


def test_a_licence_rule_leaves_masks_of_a_reference_out(coco: Path) -> None:
    content = json.loads(coco.read_text())
    content["annotations"] += [
        entry | {"id": 20 + n, "image_id": 2} for n, entry in enumerate(content["annotations"][:3])
    ]
    coco.write_text(json.dumps(content))
    subject = open_coco(str(coco), licences=["attribution*"])
    found = examine(subject, images=10, seed=0, duplicate_iou=0.9)
    assert (found.images, found.masks) == (1, 3) == (counts.totals(subject).images, counts.totals(subject).masks)


def test_boxes_beyond_the_image_count_at_its_border(coco: Path) -> None:
    content = json.loads(coco.read_text())
    content["annotations"][0]["bbox"] = [-90000, -40, 2, 3]
    coco.write_text(json.dumps(content))
    subject = open_coco(str(coco))
    assert counts.centres(subject).values[0] >= 1
    assert counts.rings(subject).values[-1] >= 1


def test_annotations_are_audited_without_audits(audited: Audited) -> None:
    found = counts.totals(open_data_set(f"{audited.root}@annotations"))
    assert found.masks == 5  # those of the drawing session, not those of the audit


def test_coco_and_lvis_files_are_references(coco: Path) -> None:
    subject = open_coco(str(coco))
    assert counts.relative_sizes(subject).values.sum() == 3
    found = counts.totals(subject)
    assert (found.images, found.masks, found.small, found.large) == (2, 3, 2, 0)
    shapes = examine(subject, images=10, seed=0, duplicate_iou=0.9)
    assert (shapes.images, shapes.masks, shapes.duplicates) == (2, 3, 0)
    assert shapes.covered == pytest.approx(1.0)  # the whole first image, nothing of the second
    assert shapes.concavity_sums.sum() == pytest.approx(0, abs=1e-9)
    assert [licence.name for licence in licences(subject, [])] == ["Attribution License", "none stated"]


def test_the_runs_of_a_data_set_with_a_space_in_its_name_can_be_asked_for(tmp_path: Path) -> None:
    data = DataSet(tmp_path / "Ann's masks")
    with pytest.raises(ValueError, match="no run 'x'; see: ") as refused:
        open_data_set(f"{data.root}@x")
    asked = shlex.split(str(refused.value).partition("see: ")[2])
    assert asked == ["sam-engine", "sql", str(data.root), "SELECT run_id, name FROM runs"]


@pytest.mark.parametrize(
    ("text", "licence", "words"),
    [("@third", [], "no run 'third'"), ("@first", ["MIT"], "no image has a licence like MIT")],
)
def test_what_is_not_there_is_refused(audited: Audited, text: str, licence: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        open_data_set(f"{audited.root}{text}", licences=licence)
