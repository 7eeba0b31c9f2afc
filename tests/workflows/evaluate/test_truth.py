"""Readers of truth: which masks an image has, in every form, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from sam_core.masks.rle import encode
from tests.workflows.evaluate.conftest import HEIGHT, WIDTH, picture
from workflows.evaluate.truth import TruthSet, names_of, open_set, read_boundaries, read_image, read_masks, require_size
from workflows.images import ImageError
from workflows.uris import UriReader

READER = UriReader()


def first(truth: TruthSet) -> dict:
    (row,) = truth.rows.slice(0, 1).to_pylist()
    return row


def test_label_pngs_have_a_mask_per_id(labelled: Path) -> None:
    truth = open_set(str(labelled))
    assert (truth.name, len(truth.rows)) == ("labelled", 5)
    image, labels = picture(0)
    masks = read_masks(first(truth), READER)
    assert masks.ids.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(masks.packed.dense(), [labels == value for value in (1, 2, 3)])
    np.testing.assert_array_equal(read_image(first(truth), READER), image)
    assert masks.at(np.array([2])).areas.tolist() == [float((labels == 3).sum())]


def test_images_of_one_name_in_several_folders_keep_apart(labelled: Path) -> None:
    for number, folder in ((0, "a"), (1, "b")):
        for kind in ("images", "labels"):
            (labelled / kind / folder).mkdir()
            (labelled / kind / f"{number}.png").rename(labelled / kind / folder / "9.png")
    names = open_set(str(labelled)).rows["name"].to_pylist()
    assert {"a/9", "b/9", "2"} <= set(names)


def test_coco_has_crowds_categories_and_areas_as_annotated(coco: Path) -> None:
    truth = open_set(f"pets={coco}")
    row = first(truth)
    assert (truth.name, row["name"], row["image_id"]) == ("pets", "0.png", 70)
    masks = read_masks(row, READER)
    assert masks.crowd.tolist() == [False, False, False, True]
    assert masks.categories.tolist() == [1, 2, 3, 1]
    assert set(masks.groups) == {None}
    np.testing.assert_array_equal(masks.packed.dense()[1], picture(0)[1] == 2)
    assert open_set(str(coco.parent)).rows["name"].to_pylist() == ["0.png", "1.png", "2.png"]


def test_pictures_that_only_their_endings_tell_apart() -> None:
    assert names_of(["/p/cat.jpg", "/p/cat.png"]) == ["cat.jpg", "cat.png"]
    assert names_of(["/p/cat.jpg", "/p/cat.png", "/p/a/dog.png"]) == ["cat.jpg", "cat.png", "a/dog.png"]
    assert names_of(["/p/a/cat.jpg", "/p/b/cat.png"]) == ["a/cat", "b/cat"]


def test_pictures_in_a_folder_of_the_name_of_the_one_beside_it() -> None:
    """Where these were all, they ended in a traceback."""
    assert names_of(["/p/cat.jpg", "/p/cat/cat.jpg", "/p/cat/dog.jpg"]) == ["cat", "cat/cat", "cat/dog"]


def test_an_image_that_is_listed_twice_has_one_name() -> None:
    """As in a data set in which both a run and people have masks of it."""
    assert names_of(["/p/cat.jpg", "/p/cat.jpg"]) == ["cat", "cat"]
    assert names_of(["/p/cat.jpg", "/p/dog.jpg", "/p/cat.jpg"]) == ["cat", "dog", "cat"]
    assert names_of(["/p/a/cat.jpg", "/p/b/cat.jpg", "/p/a/cat.jpg"]) == ["a/cat", "b/cat", "a/cat"]


def test_annotations_without_an_image_or_an_area(coco: Path) -> None:
    content = json.loads(coco.read_text())
    content["images"] = [image for image in content["images"] if image["file_name"] != "1.png"]
    for entry in content["annotations"]:
        entry["area"] = 0
    coco.write_text(json.dumps(content))
    truth = open_set(str(coco))
    assert truth.rows["name"].to_pylist() == ["0.png", "2.png"]
    areas = read_masks(first(truth), READER).areas
    assert areas[:3].tolist() == [float((picture(0)[1] == label).sum()) for label in (1, 2, 3)]


def test_boxes_alone_are_no_truth(coco: Path) -> None:
    """As in files of detectors, whose masks are empty lists: `no image has a mask to measure` did not say why."""
    content = json.loads(coco.read_text())
    for entry in content["annotations"]:
        entry["segmentation"] = []
    coco.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances\.json: no annotation is an outline on one of its images; boxes"):
        open_set(str(coco))


def test_two_images_of_one_id_are_refused(coco: Path) -> None:
    content = json.loads(coco.read_text())
    content["images"][1]["id"] = content["images"][0]["id"]
    coco.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances\.json: two images have the same id"):
        open_set(str(coco))


def test_ids_that_no_table_holds_are_refused(coco: Path) -> None:
    """As identifiers of 128 bits, written as numbers, are."""
    content = json.loads(coco.read_text())
    content["annotations"][0]["id"] = 2**127
    coco.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances\.json: an id has more than 64 bits"):
        open_set(str(coco))


def test_lvis_names_pictures_by_url_and_has_frequencies(lvis: Path) -> None:
    row = first(open_set(str(lvis), image_folder=str(lvis.parent)))
    assert (row["name"], row["uris"]) == ("images/0.png", [str(lvis.parent / "images" / "0.png")])
    assert read_masks(row, READER).groups == ("f", "c", "r")


def _sa1b(folder: Path) -> NDArray[np.bool_]:
    """A picture with the SA-1B document of one object; its mask."""
    image, labels = picture(0)
    folder.mkdir()
    Image.fromarray(image).save(folder / "sa_1.jpg")
    entry = {"id": 5, "bbox": [0, 0, 1, 1], "area": 1, "predicted_iou": 1.0, "stability_score": 1.0}
    shape = {"segmentation": {"size": [HEIGHT, WIDTH], "counts": encode(labels == 2).decode()}}
    place = {"crop_box": [0, 0, WIDTH, HEIGHT], "point_coords": [[1.0, 1.0]]}
    info = {"image_id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "sa_1.jpg"}
    (folder / "sa_1.json").write_text(json.dumps({"image": info, "annotations": [entry | shape | place]}))
    return np.asarray(labels == 2)


def test_sa1b_json(tmp_path: Path) -> None:
    mask = _sa1b(tmp_path / "sa1b")
    for place_of_set in (tmp_path / "sa1b", tmp_path / "sa1b" / "sa_1.json"):
        masks = read_masks(first(open_set(str(place_of_set))), READER)
        np.testing.assert_array_equal(masks.packed.dense(), [mask])


def test_counts_of_another_size_are_refused(tmp_path: Path) -> None:
    """pycocotools compares them for ever."""
    _sa1b(tmp_path / "sa1b")
    path = tmp_path / "sa1b" / "sa_1.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"]["counts"] = "11"
    path.write_text(json.dumps(document))
    row = first(open_set(str(tmp_path / "sa1b")))
    with pytest.raises(ValueError, match="run lengths of 2 px do not fit a mask"):
        read_masks(row, READER)


def test_bsds_has_the_first_persons_regions_and_everybodys_boundaries(bsds: Path) -> None:
    for kind in ("images", "ground_truth"):
        shutil.copytree(bsds / kind / "val", bsds / kind / "train")
    truth = open_set(str(bsds), split="val")
    assert [Path(uri).parent.name for uris in truth.rows["uris"].to_pylist() for uri in uris] == ["val", "val"]
    row = first(truth)
    np.testing.assert_array_equal(
        read_masks(row, READER).packed.dense()[1:], [picture(0)[1] == value for value in (1, 2, 3)]
    )
    people = read_boundaries(row, READER)
    assert [person.shape for person in people] == [(HEIGHT, WIDTH)] * 3
    assert people[2].sum() < people[0].sum()
    with pytest.raises(ValueError, match=r"no ground_truth/test; there is train, val: choose with --split"):
        open_set(str(bsds), split="test")


def test_a_changed_label_file_is_another_plan(labelled: Path) -> None:
    before = open_set(str(labelled)).rows
    Image.fromarray(picture(9)[1] * 2).save(labelled / "labels" / "0.png", compress_level=0)
    after = open_set(str(labelled)).rows
    assert not before.equals(after)
    assert before.slice(1).equals(after.slice(1))


@pytest.mark.parametrize("kind", ["labelled", "bsds", "sa1b"])
def test_a_changed_picture_is_another_plan(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """As after faces were blurred in place: figures of the picture that was there before would be shown again."""
    folder = tmp_path / "sa1b" if kind == "sa1b" else request.getfixturevalue(kind)
    if kind == "sa1b":
        _sa1b(folder)
    before = open_set(str(folder)).rows
    (changed,) = before["uris"][0].as_py()
    Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)).save(changed)
    after = open_set(str(folder)).rows
    assert not before.equals(after)
    assert before.slice(1).equals(after.slice(1))


@pytest.mark.parametrize("name", ["none", "empty", "scenes"])
def test_what_has_no_truth_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    place = name if name == "scenes" else str(tmp_path / name)
    with pytest.raises(ValueError, match=name):
        open_set(place)


def test_faults_of_images_are_told(labelled: Path) -> None:
    row = first(open_set(str(labelled)))
    with pytest.raises(ValueError, match="masks of 64x48 px for an image of 64x47 px"):
        require_size(read_image(row, READER)[1:], read_masks(row, READER))
    with pytest.raises(ValueError, match="edges are measured on BSDS500"):
        read_boundaries(row, READER)
    (labelled / "images" / "0.png").unlink()
    with pytest.raises(ImageError, match=r"0\.png: no such file"):
        read_image(row, READER)


def test_the_sample_photographs_as_pycocotools_reads_them(sample_data: Callable[[str], Path]) -> None:
    folder = sample_data("coco128")
    reference = COCO()
    reference.dataset = json.loads((folder / "instances.json").read_text())
    reference.createIndex()
    truth = open_set(str(folder))
    assert len(truth.rows) == 128
    for row in truth.rows.slice(0, 6).to_pylist():
        expected = reference.imgToAnns[row["image_id"]]
        masks = read_masks(row, READER)
        assert masks.areas.tolist() == [entry["area"] for entry in expected]
        np.testing.assert_array_equal(masks.packed.dense(), [reference.annToMask(entry) == 1 for entry in expected])
