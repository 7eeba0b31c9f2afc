"""COCO documents both ways, and every kind of segmentation against pycocotools."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from schemas.coco import CompressedRle, PlainRle, Polygon, from_json, rle_of, to_json
from tests.schemas import rows

LINE = np.zeros((40, 60), bool)
LINE[5:15, 0] = True
COMMON = {"image_id": 7, "category_id": 2, "area": 30.5, "bbox": [1, 1, 8, 8]}
TEXT = json.dumps(
    {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 40, "width": 60, "license": 3, "coco_url": "http://..."}],
        "annotations": [
            COMMON | {"id": 1, "segmentation": [[1, 1, 9, 1, 9.5, 9]], "iscrowd": 0},
            COMMON | {"id": 2, "segmentation": {"size": [40, 60], "counts": [5, 10, 2385]}, "iscrowd": 1},
            COMMON | {"id": 3, "segmentation": {"size": [40, 60], "counts": rows.shape(LINE)["rle"].decode()}},
        ],
        "categories": [{"id": 2, "name": "cat"}],
        "licenses": [{"id": 3, "name": "CC0", "url": "http://x"}],
    }
)


def test_a_document_survives_a_round_trip() -> None:
    document = from_json(TEXT, where="instances.json")
    kinds = [type(annotation.segmentation) for annotation in document.annotations]
    assert kinds == [tuple, PlainRle, CompressedRle]
    assert document.images[0].license == 3
    assert from_json(to_json(document), where="again") == document


def test_a_written_document_is_read_by_pycocotools(tmp_path: Path) -> None:
    document = from_json(TEXT, where="instances.json")
    path = tmp_path / "instances.json"
    path.write_text(to_json(document))
    reader = COCO(path)
    for annotation in document.annotations:
        theirs = reader.annToMask(reader.anns[annotation.id])
        ours = coco_mask.decode({"size": [40, 60], "counts": rle_of(annotation.segmentation, height=40, width=60)})
        np.testing.assert_array_equal(ours, theirs)


def test_real_annotations_as_pycocotools_draws_them(sample_data: Callable[[str], Path]) -> None:
    path = sample_data("coco128") / "instances.json"
    document, reader = from_json(path.read_bytes(), where=str(path)), COCO(path)
    sizes = {image.id: (image.height, image.width) for image in document.images}
    assert len(document.annotations) == len(reader.anns)
    for annotation in document.annotations:
        height, width = sizes[annotation.image_id]
        counts = rle_of(annotation.segmentation, height=height, width=width)
        assert counts == reader.annToRLE(reader.anns[annotation.id])["counts"]


def test_rles_of_both_kinds() -> None:
    bitmap = rows.discs(1)[0]
    expected = rows.shape(bitmap)["rle"]
    flat = bitmap.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    plain = PlainRle((40, 60), tuple([0, *lengths] if flat[0] else lengths))
    assert rle_of(plain, height=40, width=60) == expected
    assert rle_of(CompressedRle((40, 60), expected.decode()), height=40, width=60) == expected


def test_polygons_of_two_corners_are_no_boxes() -> None:
    square = (5.0, 5.0, 20.0, 5.0, 20.0, 20.0, 5.0, 20.0)
    both = rle_of((square, (0.0, 0.0, 30.0, 30.0)), height=40, width=60)
    assert both == rle_of((square,), height=40, width=60)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (PlainRle((60, 40), (2400,)), r"the RLE's size \[60, 40\] is not the image's \[40, 60\]"),
        (PlainRle((40, 60), (2399,)), "does not cover its image of 60x40 px"),
        (PlainRle((40, 60), (-1, 2401)), "does not cover its image"),
        (PlainRle((40, 60), ()), "does not cover its image"),
        (CompressedRle((40, 60), "5:"), "does not cover its image"),
        (CompressedRle((40, 60), "é"), "outside of 48 to 111"),
        (CompressedRle((40, 60), ""), "is empty"),
        ((), "no polygon has three corners"),
        (((1.0, 1.0, 5.0, 5.0),), "no polygon has three corners"),
        (((1.0, 1.0, 5.0, 5.0, 1.0, 9.0, 3.0),), "half a corner"),
        (((1.0, 1.0, 1e9, 5.0, 1.0, 9.0),), "far outside of the image of 60x40 px"),
        (((1.0, 1.0, float("nan"), 5.0, 1.0, 9.0),), "far outside of the image of 60x40 px"),
    ],
)
def test_segmentations_that_are_none(
    segmentation: tuple[Polygon, ...] | PlainRle | CompressedRle, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rle_of(segmentation, height=40, width=60)


def test_crowds_may_be_true_or_false() -> None:
    document = json.loads(TEXT)
    for annotation, stated in zip(document["annotations"], (True, False, None), strict=True):
        annotation["iscrowd"] = stated
    read = from_json(json.dumps(document), where="x.json")
    assert [annotation.iscrowd for annotation in read.annotations] == [1, 0, 0]


def test_an_outline_alone_is_enough() -> None:
    """Programs that export masks leave areas and boxes to who reads them."""
    document = json.loads(TEXT)
    for entry in document["annotations"]:
        del entry["area"], entry["bbox"]
    read = from_json(json.dumps(document), where="x.json")
    assert [(each.area, each.bbox) for each in read.annotations] == [(0.0, None)] * 3
    assert from_json(to_json(read), where="again") == read
    assert "bbox" not in to_json(read)


def test_an_image_that_is_listed_twice_is_one() -> None:
    document = json.loads(TEXT)
    document["images"] *= 2
    assert from_json(json.dumps(document), where="x.json") == from_json(TEXT, where="x.json")


def test_images_too_large_for_an_rle_are_refused() -> None:
    with pytest.raises(ValueError, match="has no RLE: pycocotools counts in 32 bits"):
        rle_of(PlainRle((2**20, 2**20), (2**40,)), height=2**20, width=2**20)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=[chr(c) for c in range(40, 120)], max_size=20))
def test_any_text_as_rle_is_sound_or_refused(counts: str) -> None:
    try:
        rle = rle_of(CompressedRle((40, 60), counts), height=40, width=60)
    except ValueError:
        return
    assert coco_mask.decode({"size": [40, 60], "counts": rle}).shape == (40, 60)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 3}, "x.json: images is 3; it must be a list"),
        ({"annotations": [{"bbox": [1, 2, 3, 4]}]}, r"x.json: annotations\[0\] has no id"),
        ({"images": [{"id": 1, "file_name": 5}]}, r"images\[0\]: file_name is 5; it must be a text"),
        (
            {"images": [{"id": 1, "file_name": name, "height": 4, "width": 6} for name in ("a.png", "b.png")]},
            r"x.json: two images have the same id, so whose the masks are cannot be told \(1: 'a.png', 'b.png'\)",
        ),
    ],
)
def test_refusals(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(json.dumps(json.loads(TEXT) | change), where="x.json")


@pytest.mark.parametrize(
    "segmentation",
    [[5], [["a"]], [[1, None]], [[10**400] * 6], "text", {"size": [1, 1]}, {"size": [1, 1], "counts": [1.5]}],
)
def test_segmentations_of_no_known_kind(segmentation: object) -> None:
    document = json.loads(TEXT)
    document["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(ValueError, match=r"x\.json: annotations\[0\]"):
        from_json(json.dumps(document), where="x.json")


def test_lvis_names_pictures_by_url_and_categories_by_frequency() -> None:
    content = {
        "images": [{"id": 1, "coco_url": "http://images.cocodataset.org/val2017/0001.jpg", "height": 4, "width": 5}],
        "annotations": [],
        "categories": [{"id": 2, "name": "hen", "frequency": "r"}, {"id": 3, "name": "cat"}],
    }
    document = from_json(json.dumps(content), where="lvis.json")
    assert document.images[0].file_name == "val2017/0001.jpg"
    assert [category.frequency for category in document.categories] == ["r", ""]
    again = json.loads(to_json(document))["categories"]
    assert [category.get("frequency") for category in again] == ["r", None]
