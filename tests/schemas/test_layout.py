"""Keys say what they were made from, and never leave the root."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import layout
from schemas.layout import PlanKey, SessionKey, ShardKey

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
NUMBERS = st.integers(0, 10**10)


def test_keys_are_those_of_the_design() -> None:
    assert layout.plan_key("r-1", 1) == "plans/run=r-1/part-0001.parquet"
    assert layout.masks_key("r-1", 12) == "masks/run=r-1/shard-00000012.parquet"
    assert layout.outcomes_key("r-1", 12) == "outcomes/run=r-1/shard-00000012.parquet"
    assert layout.run_key("r-1") == "runs/r-1.json"
    assert layout.round_key(3) == "rounds/3.json"
    assert layout.snapshot_key(3) == "rounds/3/snapshot.parquet"
    assert layout.step_key(3, "train") == "rounds/3/train.json"
    assert layout.parse_round_key(layout.step_key(3, "train")) is None
    assert layout.detector_key(3) == "rounds/3/detector.safetensors"
    assert layout.parse_round_key(layout.snapshot_key(3)) is None
    assert layout.images_key("0001") == "images/part-0001.parquet"


@given(NAMES, NUMBERS)
def test_keys_and_their_inverses(name: str, number: int) -> None:
    assert layout.parse_shard_key(layout.masks_key(name, number)) == ShardKey("masks", name, number)
    assert layout.parse_shard_key(layout.outcomes_key(name, number)) == ShardKey("outcomes", name, number)
    assert layout.parse_shard_key(layout.tags_key(name, number)) == ShardKey("tags", name, number)
    assert layout.parse_plan_key(layout.plan_key(name, number + 1)) == PlanKey(name, number + 1)
    assert layout.parse_session_key(layout.annotations_key(name, number + 1)) == SessionKey("masks", name, number + 1)
    assert layout.parse_session_key(layout.events_key(name, number + 1)) == SessionKey("events", name, number + 1)
    assert layout.parse_run_key(layout.run_key(name)) == name
    assert layout.parse_images_key(layout.images_key(name)) == name
    assert layout.parse_crops_key(layout.crops_key(f"{number:064d}", name)) == name
    assert layout.parse_model_key(layout.model_card_key(name)) == name
    assert layout.parse_round_key(layout.round_key(number)) == number


@given(st.integers(0, 99_999_999), st.integers(0, 99_999_999))
def test_shards_sort_as_their_numbers(one: int, other: int) -> None:
    assert (layout.masks_key("r", one) < layout.masks_key("r", other)) == (one < other)


@given(NAMES)
def test_no_name_leaves_its_folder(name: str) -> None:
    for key in (layout.masks_key(name, 0), layout.run_key(name), layout.embedding_key(name, "0" * 32)):
        assert posixpath.normpath(key) == key
        assert not key.startswith("/")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/etc", ".hidden", "-rf", "a b", "é", "a\n", "x" * 129]
)
def test_unsafe_names_are_refused(name: str) -> None:
    for make in (layout.run_key, layout.model_card_key, layout.images_key, lambda bad: layout.masks_key(bad, 0)):
        with pytest.raises(ValueError, match="cannot be a file name"):
            make(name)


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="shard -1 is below 0"):
        layout.masks_key("r", -1)
    with pytest.raises(ValueError, match="plan part 0 is below 1"):
        layout.plan_key("r", 0)


@pytest.mark.parametrize(
    "key",
    [
        "masks/run=r/.shard-00000001.parquet.tmp",
        "masks/run=r/shard-1.parquet",
        "masks/run=r/shard-000000001.parquet",
        "masks/run=../shard-00000001.parquet",
        "masks/run=a/b/shard-00000001.parquet",
        "other/run=r/shard-00000001.parquet",
        "masks/run=r/shard-00000001.parquet\n",
    ],
)
def test_other_files_are_not_shards(key: str) -> None:
    assert layout.parse_shard_key(key) is None


def test_parts_count_from_one() -> None:
    for number, known in ((0, False), (1, True)):
        assert bool(layout.parse_plan_key(f"plans/run=r/part-{number:04d}.parquet")) == known
        assert bool(layout.parse_session_key(layout.annotations_key("s", 1).replace("1.", f"{number}."))) == known
