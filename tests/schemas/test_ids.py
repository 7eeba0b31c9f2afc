"""Identifiers are functions of what they name."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from schemas.layout import checked_name

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_image_id_is_the_start_of_the_sha256() -> None:
    data = b"some photograph"
    assert ids.content_hash(data) == hashlib.sha256(data).hexdigest()
    assert ids.image_id(data) == hashlib.sha256(data).hexdigest()[:32] == ids.image_id_of_hash(ids.content_hash(data))


def test_an_unreadable_image_is_named_by_its_place() -> None:
    assert ids.unreadable_image_id("s3://b/x.jpg") == ids.unreadable_image_id("s3://b/x.jpg")
    assert ids.unreadable_image_id("s3://b/x.jpg") != ids.unreadable_image_id("s3://b/y.jpg")
    assert ids.unreadable_image_id("x") != ids.image_id(b"x")
    assert len(ids.unreadable_image_id("ünï.jpg")) == 32


@given(JSON)
def test_canonical_json_is_the_same_after_a_round_trip(value: object) -> None:
    text = ids.canonical_json(value)
    assert ids.canonical_json(json.loads(text)) == text
    assert text.isascii()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": object()}, {(1, 2): 3}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        ids.canonical_json(value)


def test_run_id_depends_on_model_recipe_and_name_only() -> None:
    base = ids.run_id("aa", '{"a": 1, "b": 2.5}')
    assert base == ids.run_id("aa", '{"b":2.5,"a":1}')
    others = {ids.run_id("ab", '{"a": 1, "b": 2.5}'), ids.run_id("aa", '{"a": 1, "b": 2.6}')}
    named = ids.run_id("aa", '{"a": 1, "b": 2.5}', name="mine")
    assert len({base, named, *others}) == 4
    assert named.startswith("mine-")
    assert not named.endswith(base)
    assert checked_name(named, "run") == named


def test_run_names_must_fit_into_a_path() -> None:
    with pytest.raises(ValueError, match=r"run name .* cannot be a file name"):
        ids.run_id("aa", "{}", name="../x")
    with pytest.raises(ValueError, match="cannot be a file name"):
        ids.run_id("aa", "{}", name="x" * 128)


def test_mask_ids_say_what_they_name() -> None:
    assert ids.mask_id("night-0123456789ab", "3fa9", 7) == "night-0123456789ab.3fa9.00007"


def test_mask_ids_sort_by_index() -> None:
    made = [ids.mask_id("r", "i", index) for index in (0, 9, 10, 99, 12345)]
    assert made == sorted(made)


def test_model_id_is_readable() -> None:
    assert ids.model_id("vit_n", "0123456789abcdef") == "vit_n-0123456789ab"
    with pytest.raises(ValueError, match="model name"):
        ids.model_id("../vit", "00")
