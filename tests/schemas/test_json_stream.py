"""Large JSON read piece by piece, beside `json.loads`: the same values, the same complaints, a part of the memory."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import coco, json_stream
from schemas.json_fields import JsonObject, NoObjectError, parse_object
from schemas.json_stream import read_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
ITEMS = st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=4)
NUMBERS = '{"a": 10.5, "list": [{}], "b": [1.25e+3, -0.5E2, 12], "c": 7 , "d": Infinity}'
SAMPLE = '{"a": 1, "list": [{"x": [1, -2.5e3]}, {"y": "\\u00e9\\n\\""}], "b": {"c": null}}'


@pytest.fixture(autouse=True, params=[1, 7, 1 << 20])
def window(request: pytest.FixtureRequest) -> Iterator[None]:
    """Windows that end everywhere, and the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_WINDOW", request.param)
        yield


def values_of(text: str | bytes) -> dict[str, object]:
    return read_object(text, "x.json", {"list": lambda entry: entry.values}).values


@settings(deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=3), ITEMS, st.sampled_from([None, 0, 2]), st.booleans())
def test_it_reads_what_json_reads(said: dict[str, Any], items: list[Any], indent: int | None, ascii_only: bool) -> None:
    whole = said | {"list": items}
    text = json.dumps(whole, indent=indent, ensure_ascii=ascii_only)
    assert values_of(text) == whole
    assert list(values_of(text.encode("utf-8", "surrogatepass"))) == list(whole)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_every_encoding_of_json(encoding: str) -> None:
    assert values_of(SAMPLE.replace("\\u00e9", "é").encode(encoding)) == json.loads(SAMPLE)


def test_every_text_that_breaks_off_is_told_as_json_tells_it() -> None:
    for text in (SAMPLE, NUMBERS, json.dumps(json.loads(SAMPLE), indent=1)):
        for end in range(len(text)):
            for one in (text[:end], f"{text[:end]}?{text[end:]}", f"{text[:end]},{text[end:]}", text + text[end:]):
                assert told(lambda text: parse_object(text, "x.json").values, one) == told(values_of, one)


def told(read: Callable[[str], dict[str, object]], text: str) -> object:
    """What comes of a text: its values, or what is said of it."""
    try:
        return read(text)
    except NoObjectError as error:
        return str(error)


@pytest.mark.parametrize(
    "text", ["[]", "3", "null", '{"list": [3]}', b'{"a": "\xff"}', b"\xff", '{"list": ' + "[" * 10**5]
)
def test_what_is_no_object(text: str | bytes) -> None:
    with pytest.raises(NoObjectError, match=r"^x\.json(: list\[0\])? (must be an object, not|is not JSON: )"):
        values_of(text)


def test_numbers_of_any_length() -> None:
    assert values_of('{"list": [{"a": %s}]}' % ("9" * 4000)) == {"list": [{"a": int("9" * 4000)}]}
    with pytest.raises(NoObjectError, match=r"^x\.json is not JSON: Exceeds the limit"):
        values_of('{"list": [{"a": %s}]}' % ("9" * 10_000))


@pytest.mark.parametrize("value", ["3", "null", "{}", '"a"'])
def test_a_list_that_is_none_is_left_as_it_is(value: str) -> None:
    assert values_of(f'{{"list": {value}}}') == {"list": json.loads(value)}


def test_items_know_their_place_and_the_last_of_two_lists_counts() -> None:
    text = '{"list": [{"a": 1}], "list": [{"a": 2}, {"a": 3}]}'
    places = read_object(text, "x.json", {"list": lambda entry: entry.where}).values
    assert places == {"list": ["x.json: list[0]", "x.json: list[1]"]}


@pytest.mark.parametrize("window", [1 << 20], indirect=True)
def test_coco_takes_little_more_than_its_text() -> None:
    corners = [round(1.01 * number, 2) for number in range(200)]
    entry = {"image_id": 1, "category_id": 1, "segmentation": [corners], "area": 5.5, "bbox": [1.5, 2.5, 3.5, 4.5]}
    whole = {"images": [], "annotations": [entry | {"id": number} for number in range(2000)], "categories": []}
    text = json.dumps(whole).encode()
    tracemalloc.start()
    try:
        assert len(coco.from_json(text, where="x.json").annotations) == 2000
        assert tracemalloc.get_traced_memory()[1] < 3 * len(text)  # json.loads alone takes seven times as much
    finally:
        tracemalloc.stop()


def test_what_a_function_refuses_is_said() -> None:
    def refuse(entry: JsonObject) -> object:
        return entry.integer("id")

    with pytest.raises(ValueError, match=r"^x\.json: list\[0\] has no id$"):
        read_object('{"list": [{}]}', "x.json", {"list": refuse})
