"""Masks of others become rows, and what was exported comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.workflows.conftest import Engine, save_photos
from tests.workflows.exchange.conftest import BRUSHED, Masked, bitmap_of, coco_document
from workflows.sql import connect
from workflows.storage import LocalStore

STATED = ["height", "width", "rle", "bbox_x", "bbox_y", "bbox_w", "bbox_h", "area", "predicted_iou", "stability_score"]
STATED += ["point_x", "point_y", "crop_x", "crop_y", "crop_w", "crop_h", "stage", "annotator"]


def rows(dataset: Path, sql: str) -> list[dict[str, Any]]:
    return connect(str(dataset)).sql(sql).to_arrow_table().to_pylist()


def stated(masks: pa.Table | list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """What a mask says of itself, whatever its identifiers are, in any order."""
    found = masks.to_pylist() if isinstance(masks, pa.Table) else masks
    return sorted((tuple(row[name] for name in STATED) for row in found), key=repr)


@pytest.mark.parametrize("kind", ["sa1b", "coco"])
def test_automatic_masks_come_back_equal(engine: Engine, masked: Masked, tmp_path: Path, kind: str) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    assert engine("export", masked.root, out, "--format", kind).status == 0
    source = out if kind == "sa1b" else out / "instances.json"
    first = engine("import", source, back)
    assert first.status == 0, first.err
    assert stated(rows(back, "SELECT * FROM masks")) == stated(masked.masks)
    (run,) = rows(back, "SELECT run_id, model_name, stage FROM runs")
    assert (run["model_name"], run["stage"]) == ("imported", "automatic")
    assert rows(back, "SELECT sum(n_masks) AS n, count(*) AS images FROM outcomes WHERE status = 'ok'") == [
        {"n": len(masked.masks), "images": 4}
    ]
    assert rows(back, "SELECT * FROM problems") == []
    before = set(LocalStore(back).list())
    again = engine("import", source, back)
    assert again.status == 0
    assert "0 masks imported" in again.out
    assert set(LocalStore(back).list()) == before


def test_coco_of_people_there_and_back(engine: Engine, tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "photos", 3)
    source = tmp_path / "instances.json"
    source.write_text(json.dumps(coco_document(photos)))
    data, out, back = tmp_path / "data", tmp_path / "out", tmp_path / "back"
    arguments = ("--image-folder", tmp_path / "photos", "--annotator", "ada", "--stage", "semi-automatic")
    assert engine("import", source, data, *arguments).status == 0
    found = rows(data, "SELECT * FROM annotations")
    assert {(row["annotator"], row["stage"]) for row in found} == {("ada", "semi_automatic")}
    assert engine("export", data, out, "--format", "coco").status == 0
    before, after = COCO(str(source)), COCO(str(out / "instances.json"))
    assert len(after.imgs) == len(before.imgs) == 3  # also the one of which the file says that it shows nothing
    names = {number: category["name"] for number, category in after.cats.items()}
    written = {(names[ann["category_id"]], after.annToMask(ann).tobytes()) for ann in after.anns.values()}
    assert written == {
        (before.cats[ann["category_id"]]["name"], before.annToMask(ann).tobytes())
        for ann in before.anns.values()
        if not ann["iscrowd"]
    }
    assert engine("import", out / "instances.json", back).status == 0  # stage and annotator are in the file
    returned = rows(back, "SELECT * FROM annotations")
    same = ["rle", "area", "stage", "annotator", "height", "width", "bbox_x", "bbox_y", "bbox_w", "bbox_h"]
    assert sorted(repr([row[name] for name in same]) for row in found) == sorted(
        repr([row[name] for name in same]) for row in returned
    )


def test_what_a_model_made_of_the_whole_picture_says_so(engine: Engine, tmp_path: Path) -> None:
    """Where a file does not say in which part of the picture a model saw a mask."""
    document = coco_document(save_photos(tmp_path / "images", 2))
    for number, entry in enumerate(document["annotations"][:4]):
        entry |= {"predicted_iou": 0.9, "stability_score": 0.95, "point_coords": [[5 + number, 7]]}
    (tmp_path / "x.json").write_text(json.dumps(document))
    assert engine("import", tmp_path / "x.json", tmp_path / "data", "--stage", "automatic").status == 0
    found = rows(tmp_path / "data", "SELECT point_x, point_y, crop_x, crop_y, crop_w, crop_h FROM masks ORDER BY 1")
    assert [tuple(row.values()) for row in found] == [(5 + number, 7, 0, 0, 64, 48) for number in range(4)]


def test_a_crowd_comes_back_as_one(engine: Engine, tmp_path: Path) -> None:
    """Evaluators count a crowd that says it is none as one object, which nobody finds."""
    source, data = tmp_path / "x.json", tmp_path / "data"
    document = coco_document(save_photos(tmp_path / "images", 2))
    source.write_text(json.dumps(document))
    assert engine("import", source, data, "--crowds").status == 0

    def exported(name: str) -> list[int]:
        assert engine("export", data, tmp_path / name, "--format", "coco", "--no-pictures").status == 0
        found = COCO(str(tmp_path / name / "instances.json")).anns.values()
        return sorted(annotation["iscrowd"] for annotation in found)

    assert exported("one") == [0, 0, 0, 0, 1]
    refused = engine("export", data, tmp_path / "lvis", "--format", "lvis", "--no-pictures")
    assert (refused.status, "is a crowd, which LVIS does not know: use --format coco" in refused.err) == (2, True)
    del document["annotations"][4]["iscrowd"]
    source.write_text(json.dumps(document))
    assert engine("import", source, data, "--crowds").status == 0
    assert exported("other") == [0, 0, 0, 0, 0]


def test_half_a_character_in_a_category_costs_that_character(engine: Engine, tmp_path: Path) -> None:
    """It ended the import in the words of a codec, as an image's metadata did not."""
    document = coco_document(save_photos(tmp_path / "images", 2))
    document["categories"][0]["name"] = "cat \ud83d"
    (tmp_path / "x.json").write_text(json.dumps(document))
    assert engine("import", tmp_path / "x.json", tmp_path / "data").status == 0
    said = rows(tmp_path / "data", "SELECT DISTINCT details->>'category' AS c FROM events WHERE mask_id <> ''")
    assert {row["c"] for row in said} == {"cat ?", "dog"}


def test_a_picture_of_a_crowd_is_not_one_of_nothing(engine: Engine, tmp_path: Path) -> None:
    document = coco_document(save_photos(tmp_path / "images", 3))
    document["annotations"][4]["image_id"] = document["images"][2]["id"]
    (tmp_path / "x.json").write_text(json.dumps(document))
    assert engine("import", tmp_path / "x.json", tmp_path / "data").status == 0
    assert "2 images" in engine("export", tmp_path / "data", tmp_path / "out", "--format", "coco").out


def test_a_picture_that_a_tool_lists_may_still_be_drawn(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path
) -> None:
    """CVAT and Label Studio export what nobody has come to yet, too, which is not what shows nothing."""
    labelled()
    Image.new("RGB", (12, 9)).save(tmp_path / "images" / "two.png")
    open_still = '<image id="1" name="two.png" width="12" height="9"></image>'
    (tmp_path / "tasks.xml").write_text(CVAT.format(more="").replace("</annotations>", f"{open_still}</annotations>"))
    assert engine("import", tmp_path / "tasks.xml", tmp_path / "data").status == 0
    assert "1 images" in engine("export", tmp_path / "data", tmp_path / "out", "--format", "coco").out


def test_masks_that_are_none_are_left_out_and_said(engine: Engine, tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "images", 3)
    document = coco_document(photos)
    document["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    document["annotations"][1]["segmentation"] = {"size": [48, 64], "counts": [48 * 64]}
    document["annotations"][2]["stage"] = "finished"
    document["annotations"][3]["stage"] = "automatic"
    document["images"][2]["height"] = 64
    (tmp_path / "x.json").write_text(json.dumps(document))
    finished = engine("import", tmp_path / "x.json", tmp_path / "data", "--crowds")
    assert finished.status == 1
    for words in (
        "annotation 10 of photo-000.png: no polygon has three corners",
        "mask 11: has no pixels",
        "mask 12: its stage 'finished' is none of assisted_manual",
        "mask 13: an automatic mask needs predicted_iou, stability_score, point_coords; --stage assisted-manual",
    ):
        assert words in finished.err
    assert "1 masks imported" in finished.out
    assert "4 left out" in finished.out


def test_pictures_of_another_size_are_left_out(engine: Engine, tmp_path: Path) -> None:
    photos = save_photos(tmp_path / "images", 2)
    document = coco_document(photos)
    Image.new("RGB", (10, 10)).save(photos[0])
    (tmp_path / "x.json").write_text(json.dumps(document))
    finished = engine("import", tmp_path / "x.json", tmp_path / "data")
    assert finished.status == 1
    assert "photo-000.png is 10x10 px, its masks 64x48 px" in finished.err


"""A mask of 9x12 px as Label Studio's own converter packs it."""


def test_label_studio(engine: Engine, labelled: Callable[..., Path], tmp_path: Path) -> None:
    assert engine("import", labelled(), tmp_path / "data").status == 0
    brushed, drawn = rows(tmp_path / "data", "SELECT * FROM annotations ORDER BY mask_id")
    assert np.array_equal(bitmap_of(brushed), np.array(BRUSHED["mask"], bool))
    left = np.zeros((9, 12), bool)
    left[:, :6] = True
    assert np.array_equal(bitmap_of(drawn), left)
    assert (brushed["annotator"], str(brushed["created_at"])) == ("ada@example.org", "2026-01-31 12:00:00")
    said = rows(tmp_path / "data", "SELECT details->>'category' AS c FROM events WHERE mask_id <> '' ORDER BY mask_id")
    assert [row["c"] for row in said] == ["leaf", "stem"]


def test_the_parts_of_a_label_studio_region_are_one(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path
) -> None:
    """Where label and shape are controls of their own, the label was said to be no mask, and the mask had none."""
    (task,) = json.loads(labelled().read_text())
    brush, polygon, _ = task["annotations"][0]["result"]
    common = {name: polygon[name] for name in ("id", "original_width", "original_height", "to_name")}
    label = {"type": "labels", "value": {"points": polygon["value"]["points"], "labels": ["twig"]}}
    asked = {"type": "choices", "value": {"choices": ["sharp"]}}
    del polygon["value"]["polygonlabels"]
    task["annotations"][0]["result"] = [common | label, brush, polygon | {"type": "polygon"}, common | asked]
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    finished = engine("import", tmp_path / "tasks.json", tmp_path / "data")
    assert (finished.status, "2 masks imported" in finished.out) == (0, True), finished.err
    said = rows(tmp_path / "data", "SELECT details->>'category' AS c FROM events WHERE mask_id <> '' ORDER BY mask_id")
    assert [row["c"] for row in said] == ["leaf", "twig"]


def test_the_picture_of_a_label_studio_task_is_found_among_texts(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path
) -> None:
    """A field that says something else about the picture made the whole export one without pictures."""
    (task,) = json.loads(labelled().read_text())
    task["data"] = {"photo": "https://example.org/x/one.png?size=full", "city": "Ulm", "camera": "X-100"}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    assert "2 masks imported" in engine("import", tmp_path / "tasks.json", tmp_path / "data").out
    task["data"] = {"left": "one.png", "right": "two.png"}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    refused = engine("import", tmp_path / "tasks.json", tmp_path / "other")
    assert (refused.status, "and no other that alone names a picture" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "rectanglelabels"}, "rectanglelabels is no mask"),
        ({"image_rotation": 90}, "was turned in Label Studio"),
        ({"value": {"rle": BRUSHED["rle"][:-2]}}, "brush is cut off"),
        ({"value": {"rle": [0, 0, 0, 1, 56, 0, 0, 0]}}, "its brush holds 1 values of 8 bits"),
        ({"value": {"rle": [255, 255, 255, 255, *BRUSHED["rle"][4:]]}}, "its brush holds 4294967295 values"),
        ({"value": {"rle": [300]}}, "its brush is no list of bytes"),
        ({"original_width": 100_000, "original_height": 100_000}, "several sizes"),
    ],
)
def test_regions_that_are_no_masks(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    finished = engine("import", labelled(**changes), tmp_path / "data", "--max-pixels", "20000000000")
    assert finished.status == 1
    assert message in finished.err


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>t</name></task></meta>
<image id="0" name="one.png" width="12" height="9">
  <polygon label="leaf" occluded="0" points="0.0,0.0;6.0,0.0;6.0,9.0;0.0,9.0" z_order="0"></polygon>
  <mask label="stem" occluded="0" rle="1, 2, 1, 2" left="3" top="2" width="3" height="2" z_order="0"></mask>
  {more}
</image></annotations>
"""


def test_cvat(engine: Engine, labelled: Callable[..., Path], tmp_path: Path) -> None:
    labelled()
    (tmp_path / "tasks.xml").write_text(CVAT.format(more=""))
    assert engine("import", tmp_path / "tasks.xml", tmp_path / "data", "--annotator", "bob").status == 0
    drawn, masked = rows(tmp_path / "data", "SELECT * FROM annotations ORDER BY mask_id")
    assert bitmap_of(drawn)[:, :6].all()
    assert not bitmap_of(drawn)[:, 6:].any()
    expected = np.zeros((9, 12), bool)
    expected[2:4, 3:6] = [[False, True, True], [False, True, True]]
    assert np.array_equal(bitmap_of(masked), expected)
    assert masked["annotator"] == "bob"


def test_two_entries_of_one_picture_are_taken_together(
    engine: Engine, labelled: Callable[..., Path], tmp_path: Path
) -> None:
    """As merged exports have them, in CVAT with the same id."""
    labelled()
    whole = CVAT.format(more="")
    image = whole[whole.index("<image") : whole.index("</annotations>")]
    (tmp_path / "tasks.xml").write_text(whole.replace(image, image + image))
    assert "4 masks imported" in engine("import", tmp_path / "tasks.xml", tmp_path / "cvat").out
    assert len(rows(tmp_path / "cvat", "SELECT * FROM annotations")) == 4
    other = image.replace('height="9"', 'height="8"')
    (tmp_path / "sizes.xml").write_text(whole.replace(image, image + other))
    refused = engine("import", tmp_path / "sizes.xml", tmp_path / "none")
    assert (refused.status, "is stated to be of several sizes" in refused.err) == (2, True)
    photos = save_photos(tmp_path / "images", 3)
    document = coco_document(photos)
    document["images"][1]["file_name"] = document["images"][0]["file_name"]
    (tmp_path / "x.json").write_text(json.dumps(document))
    assert engine("import", tmp_path / "x.json", tmp_path / "coco").status == 0
    found = rows(tmp_path / "coco", "SELECT image_id FROM annotations")
    assert (len(found), len({row["image_id"] for row in found})) == (4, 1)  # the crowd is none


def test_masks_are_counted_anew_in_each_picture(engine: Engine, masked: Masked, tmp_path: Path) -> None:
    out, back = tmp_path / "out", tmp_path / "back"
    assert engine("export", masked.root, out, "--format", "sa1b").status == 0
    for path in out.glob("*.json"):
        document = json.loads(path.read_text())
        document["annotations"] = [entry | {"id": n} for n, entry in enumerate(document["annotations"])]
        path.write_text(json.dumps(document))
    done = engine("import", out, back, "--stage", "assisted-manual")
    assert (done.status, f"{len(masked.masks)} masks imported" in done.out) == (0, True)
    assert len(rows(back, "SELECT * FROM annotations")) == len(masked.masks)
    path = max(out.glob("*.json"), key=lambda path: path.stat().st_size)
    document = json.loads(path.read_text())
    changed = document["annotations"][0]
    changed["segmentation"] = document["annotations"].pop()["segmentation"]
    path.write_text(json.dumps(document))
    assert engine("import", out, back, "--stage", "assisted-manual").status == 0  # another content, another import
    revisions = rows(back, "SELECT mask_id FROM annotation_revisions")
    assert len(revisions) == len(masked.masks) + 2  # one is changed, one deleted that is not there any more
    assert len(rows(back, "SELECT * FROM annotations")) == len(masked.masks) - 1


def test_what_breaks_a_rule_is_not_counted(engine: Engine, tmp_path: Path) -> None:
    document = coco_document(save_photos(tmp_path / "images", 3))
    document["annotations"][2]["stability_score"] = 2.0
    (tmp_path / "x.json").write_text(json.dumps(document))
    done = engine("import", tmp_path / "x.json", tmp_path / "data")
    found = rows(tmp_path / "data", "SELECT * FROM annotations")
    assert (done.status, f"{len(found)} masks imported" in done.out, len(found)) == (1, True, 2)
    again = engine("import", tmp_path / "x.json", tmp_path / "data")
    assert (again.status, again.err.count("left out: "), "stability_score" in again.err) == (1, 1, True)


def test_from_and_into_an_object_store(engine: Engine, masked: Masked, bucket: str) -> None:
    assert engine("export", masked.root, f"s3://{bucket}/out", "--format", "sa1b").status == 0
    finished = engine("import", f"s3://{bucket}/out", f"s3://{bucket}/back")
    assert finished.status == 0, finished.err
    assert f"{len(masked.masks)} masks imported" in finished.out
    found = connect(f"s3://{bucket}/back").sql("SELECT * FROM masks").to_arrow_table()
    assert stated(found) == stated(masked.masks)
