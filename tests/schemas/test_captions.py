"""Captions beside COCO's own fields, written and read; what is refused."""

import json
from array import array

import pytest

from schemas import captions, coco
from schemas.captions import Caption

DOCUMENT = coco.Document(
    images=(coco.Image(1, "a.png", 4, 4),),
    annotations=tuple(
        coco.Annotation(number, 1, 1, (array("d", (0, 0, 2, 0, 2, 2)),), 2.0, (0.0, 0.0, 2.0, 2.0))
        for number in (5, 6, 7)
    ),
    categories=(coco.Category(1, "object"),),
)


def test_what_is_written_is_read_and_is_still_coco() -> None:
    known = {5: Caption(("a red star",), "seen"), 7: Caption(("the ring", "what is round"))}
    text = captions.to_json(DOCUMENT, known)
    assert captions.from_json(text, where="x") == known
    assert coco.from_json(text, where="x") == DOCUMENT


def test_phrase_means_caption_and_spaces_around_it_nothing() -> None:
    text = json.dumps({"annotations": [{"id": 1, "phrase": " a wheel "}, {"id": 2}, {"id": 3, "caption": None}]})
    assert captions.from_json(text, where="x") == {1: Caption(("a wheel",))}


@pytest.mark.parametrize(
    ("annotations", "complaint"),
    [
        ([{"id": 1, "caption": " "}], r"x: annotations\[0\]: caption is empty"),
        ([{"id": 1, "caption": []}], "caption is empty"),
        ([{"id": 1, "caption": ["a", 3]}], "caption is empty"),
        ([{"id": 1, "caption": ["red", "a \ud83d star"]}], r"annotations\[0\]: caption has half of a character"),
        ([{"id": 1, "caption": "a", "split": "x\ud83d"}], r"annotations\[0\]: split has half of a character"),
        ([{"id": 1, "phrase": 3}], "phrase is 3; it must be a text"),
        ([{"id": 1, "caption": "a", "split": 2}], "split is 2; it must be a text"),
        ([{"id": 1, "caption": "a"}, {"id": 1, "caption": "b"}], r"annotations\[1\]: another annotation has the id 1"),
        ([{"id": 1, "caption": "a"}, {"id": 1}], r"annotations\[1\]: another annotation has the id 1"),
        ([{"id": 1}, {"id": 1, "caption": "a"}], r"annotations\[1\]: another annotation has the id 1"),
    ],
)
def test_refusals(annotations: list[dict[str, object]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        captions.from_json(json.dumps({"annotations": annotations}), where="x")
