"""Each rule is broken once, on otherwise sound rows, and the message says which row and why."""

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from pycocotools import mask as coco_mask

from schemas.tables import OUTCOMES
from schemas.validate import (
    RowError,
    check_annotations,
    check_images,
    check_masks,
    check_outcomes,
    check_shard,
)
from tests.schemas import rows

IMAGE = rows.image("a")
MASKS = rows.masks(IMAGE, rows.discs(6))
Check = Callable[[pa.Table], None]


def edited(table: pa.Table, row: int, **values: object) -> pa.Table:
    """The table with values of one row replaced."""
    changed = table.to_pylist()
    changed[row] |= values
    return pa.Table.from_pylist(changed, schema=table.schema)


def assert_refused(check: Check, table: pa.Table, message: str) -> None:
    with pytest.raises(RowError, match=message) as caught:
        check(table)
    assert "\n" not in str(caught.value)


def test_sound_rows_pass() -> None:
    check_masks(MASKS)
    check_masks(MASKS[:0])
    check_images(rows.images([("a", "x/a.png"), ("a", "y/a.png"), ("b", "x/b.png")]))
    check_images(rows.images([("a", "a")], height=None, width=None, format=None, bytes=None, exif_orientation=None))
    check_outcomes(pa.concat_tables([rows.outcomes({IMAGE: 6}), rows.failed(rows.image("b"))]))
    check_annotations(rows.annotation("m", 1, rows.discs(1)[0]))
    check_shard(MASKS, rows.outcomes({IMAGE: 6, rows.image("b"): 0}))


def test_masks_of_real_polygons_pass(sample_data: Callable) -> None:  # type: ignore[type-arg]
    document = json.loads((sample_data("coco128") / "instances.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    bitmaps = []
    for annotation in document["annotations"][:200]:
        if isinstance(annotation["segmentation"], list):
            rles = coco_mask.frPyObjects(annotation["segmentation"], *sizes[annotation["image_id"]])
            bitmaps.append(coco_mask.decode(coco_mask.merge(rles)).astype(bool))
    check_masks(rows.masks(IMAGE, [bitmap for bitmap in bitmaps if bitmap.any()]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stage": "magic"}, "has a stage that is none of assisted_manual, semi_automatic, automatic, audit"),
        ({"height": 0}, "has height below 1"),
        ({"area": 0}, "has area below 1"),
        ({"bbox_w": 0}, "has a box that is empty or leaves the image"),
        ({"bbox_x": -1}, "has a box that is empty or leaves the image"),
        ({"bbox_w": 61}, "has a box that is empty or leaves the image"),
        ({"width": 61, "crop_w": 61}, "has an rle that does not cover its image"),
        ({"rle": b"5P"}, "has an rle that is cut off in the middle of a number"),
        ({"area": 7}, "has an area other than its rle's"),
        ({"bbox_x": 0, "bbox_w": 60}, "has a box other than its rle's"),
        ({"crop_h": 41}, "has a crop that is empty or leaves the image"),
        ({"point_x": 60.5}, "has its point outside of the image"),
        ({"point_y": 40.5}, "has its point outside of the image"),
        ({"point_y": -0.5}, "has its point outside of the image"),
        ({"point_y": float("nan")}, "has its point outside of the image"),
        ({"predicted_iou": float("nan")}, "has a predicted_iou that is no number"),
        ({"stability_score": 1.01}, "has a stability_score outside of 0 to 1"),
        ({"stability_score": -0.01}, "has a stability_score outside of 0 to 1"),
        ({"stability_score": float("nan")}, "has a stability_score outside of 0 to 1"),
    ],
)
def test_broken_masks(values: dict[str, object], message: str) -> None:
    broken = edited(MASKS, 3, **values)
    assert_refused(check_masks, broken, f"masks: mask_id {MASKS['mask_id'][3].as_py()} {message}")


def test_all_rows_that_break_a_rule_are_counted() -> None:
    broken = edited(edited(MASKS, 1, stage="x"), 4, stage="y")
    assert_refused(check_masks, broken, r"00001 has a stage .* \(and 1 more\)")


def test_a_mask_id_must_be_unique() -> None:
    broken = edited(MASKS, 2, mask_id=MASKS["mask_id"][0].as_py())
    assert_refused(check_masks, broken, "masks: mask_id .* is there 2 times; it must be unique")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "has width below 1"),
        ({"bytes": -1}, "has a negative size in bytes"),
        ({"exif_orientation": 0}, "has no EXIF orientation of 1 to 8"),
        ({"exif_orientation": 9}, "has no EXIF orientation of 1 to 8"),
        ({"image_id": "0" * 32}, "does not begin its content hash"),
    ],
)
def test_broken_images(values: dict[str, object], message: str) -> None:
    assert_refused(
        check_images, edited(rows.images([("a", "a"), ("b", "b")]), 1, **values), f"images: image_id .* {message}"
    )


def test_an_image_is_listed_once_per_place() -> None:
    assert_refused(check_images, rows.images([("a", "a"), ("a", "a")]), "images: image_id .*, uri a is there 2 times")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"status": "fine"}, "has a status that is none of ok, error, crashed, skipped"),
        ({"rejected_area": -1}, "has a negative rejected_area"),
        ({"candidates": 12}, "has candidates other than masks kept plus all rejections"),
        ({"rejected_area": 1}, "has candidates other than masks kept plus all rejections"),
        ({"status": "error"}, "must have an error_class exactly when it is not ok"),
        ({"error_class": "X"}, "must have an error_class exactly when it is not ok"),
        ({"status": "error", "error_class": "X"}, "has masks although it is not ok"),
        ({"seconds_nms": -0.1}, "has seconds_nms that are no time"),
        ({"seconds_nms": float("nan")}, "has seconds_nms that are no time"),
    ],
)
def test_broken_outcomes(values: dict[str, object], message: str) -> None:
    broken = edited(rows.outcomes({IMAGE: 6}), 0, **values)
    assert_refused(check_outcomes, broken, f"outcomes: image_id {IMAGE} {message}")


def test_broken_annotations() -> None:
    sound = rows.annotation("m", 1, rows.discs(1)[0])
    assert_refused(check_annotations, edited(sound, 0, revision=0), "annotations: mask_id m has a revision below 1")
    assert_refused(
        check_annotations, edited(sound, 0, area=1), "annotations: mask_id m has an area other than its rle's"
    )
    assert_refused(check_annotations, pa.concat_tables([sound, sound]), "mask_id m, revision 1 is there 2 times")


def test_the_two_files_of_a_shard_must_agree() -> None:
    def assert_disagree(masks: pa.Table, outcomes: pa.Table, message: str) -> None:
        with pytest.raises(RowError, match=message):
            check_shard(masks, outcomes)

    assert_disagree(MASKS, rows.outcomes({IMAGE: 5}), f"shard: image {IMAGE} has 6 masks, its outcome says 5")
    assert_disagree(MASKS, OUTCOMES.empty_table(), "has 6 masks, its outcome says nothing")
    assert_disagree(MASKS[:0], rows.outcomes({IMAGE: 2}), "has 0 masks, its outcome says 2")
    assert_disagree(MASKS, rows.outcomes({IMAGE: 6}, run_id="other"), "shard: its rows are of several runs or shards")
    two = pa.concat_tables([rows.outcomes({IMAGE: 6}), rows.failed(rows.image("b"), shard=1)])
    assert_disagree(MASKS, two, "several runs or shards")


def test_sizes_do_not_overflow() -> None:
    height, width = 2, 2_000_000_000
    bitmap = np.ones((1, 1), bool)
    table = edited(rows.masks(IMAGE, [bitmap]), 0, height=height, width=width)
    assert_refused(check_masks, table, "has an rle that does not cover its image")
