"""SA-1B documents as pycocotools and `json` read them."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from schemas.sa1b import Annotation, Document, ImageInfo, Segmentation, document_of, from_json, to_json
from tests.schemas import rows

INFO = ImageInfo(image_id=223750, width=60, height=40, file_name="sa_223750.jpg")
RELEASED = {
    "image": {"image_id": 223750, "width": 60, "height": 40, "file_name": "sa_223750.jpg"},
    "annotations": [
        {
            "id": 501,
            "segmentation": {"size": [40, 60], "counts": "52203"},
            "bbox": [1.0, 2.0, 3.0, 4.0],
            "area": 9,
            "predicted_iou": 0.97,
            "stability_score": 0.98,
            "crop_box": [0.0, 0.0, 60.0, 40.0],
            "point_coords": [[12.5, 3.25]],
        }
    ],
}


def test_a_released_file_is_understood_and_written_alike() -> None:
    document = from_json(json.dumps(RELEASED), where="sa_223750.json")
    assert document.image == INFO
    assert document.annotations[0].point_coords == ((12.5, 3.25),)
    assert json.loads(to_json(document)) == RELEASED
    assert from_json(to_json(document), where="again") == document


def test_rows_become_a_document_that_pycocotools_decodes() -> None:
    bitmaps = rows.discs(7)
    table = rows.masks(rows.image("a"), bitmaps)
    document = json.loads(to_json(document_of(INFO, table, first_id=100)))
    assert [annotation["id"] for annotation in document["annotations"]] == list(range(100, 107))
    for annotation, bitmap in zip(document["annotations"], bitmaps, strict=True):
        np.testing.assert_array_equal(coco_mask.decode(annotation["segmentation"]), bitmap)
        np.testing.assert_array_equal(coco_mask.toBbox(annotation["segmentation"]), annotation["bbox"])
        assert coco_mask.area(annotation["segmentation"]) == annotation["area"]
        assert annotation["crop_box"] == [0, 0, 60, 40]
        assert annotation["point_coords"] == [[30.0, 20.0]]


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"is not of the size of sa_223750\.jpg, 60x40 px"):
        document_of(INFO, rows.masks(rows.image("a"), rows.discs(1, height=20)))


def test_the_types_can_be_made_by_hand() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    mask = Annotation(1, Segmentation((40, 60), "52203"), box, 1, 0.9, 0.9, box, ((0.5, 0.5),))
    assert json.loads(to_json(Document(INFO, (mask,))))["annotations"][0]["segmentation"]["size"] == [40, 60]


def broken(path: tuple[str | int, ...], value: object) -> str:
    document = json.loads(json.dumps(RELEASED))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "x.json must be an object, not list"),
        ("{", "x.json is not JSON"),
        ("{}", "x.json has no image"),
        (broken(("image", "width"), "wide"), "x.json: image: width is 'wide'; it must be a whole number"),
        (broken(("annotations",), {}), "x.json: annotations is {}; it must be a list"),
        (broken(("annotations", 0), 5), r"x.json: annotations\[0\] must be an object, not int"),
        (broken(("annotations", 0, "bbox"), [1, 2, 3]), r"annotations\[0\]: bbox is .* it must be a list of 4 numbers"),
        (broken(("annotations", 0, "predicted_iou"), float("nan")), "predicted_iou is nan; it must be a number"),
        (
            broken(("annotations", 0, "segmentation", "size"), [40.5, 60]),
            "size is .* it must be a list of whole numbers",
        ),
        (broken(("annotations", 0, "segmentation", "size"), [0, 60]), "size is .* of at least 1 px"),
        (broken(("annotations", 0, "segmentation", "counts"), [1, 2]), "segmentation: counts is .* it must be a text"),
        (broken(("annotations", 0, "point_coords"), [1, 2]), r"point_coords must be a list of \[x, y\]"),
        (broken(("annotations", 0, "area"), True), "area is True; it must be a whole number"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(text, where="x.json")


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x\.json is not JSON"):
        from_json("[" * 200_000, where="x.json")
