"""Every field says what it is, and the lists that other code keeps in step are in step."""

import dataclasses
from datetime import datetime

import pyarrow as pa
import pytest

from sam_core.masks.batch import Reason, StepSeconds
from schemas.tables import (
    EVENTS,
    MASKS,
    OUTCOMES,
    REJECTION_REASONS,
    STEPS,
    TABLES,
    as_stored,
    deterministic_columns,
    sort_keys,
)


@pytest.mark.parametrize("name", TABLES)
def test_every_field_is_described(name: str) -> None:
    for field in TABLES[name]:
        assert field.metadata[b"meaning"], field.name
        assert field.metadata[b"deterministic"] in (b"true", b"false")
        assert field.metadata[b"encoding"] in (b"dictionary", b"PLAIN", b"DELTA_BYTE_ARRAY")
        if field.name.startswith(("bbox_", "crop_", "point_")):
            assert (field.metadata[b"unit"], field.metadata[b"frame"]) == (b"px", b"original")
        if field.name.startswith("seconds"):
            assert field.metadata[b"unit"] == b"s"
        if pa.types.is_timestamp(field.type):
            assert field.metadata[b"unit"] == b"UTC"


@pytest.mark.parametrize("name", TABLES)
def test_names_are_unique_and_sort_keys_are_never_null(name: str) -> None:
    schema = TABLES[name]
    assert len(set(schema.names)) == len(schema.names)
    assert all(not schema.field(key).nullable for key in sort_keys(schema))


def test_clocks_and_hosts_are_not_deterministic() -> None:
    masks, outcomes = deterministic_columns(MASKS), deterministic_columns(OUTCOMES)
    assert set(MASKS.names) - set(masks) == {"created_at"}
    loose = {"host", "worker", "started_at", "finished_at", "error_message"} | {f"seconds_{step}" for step in STEPS}
    assert set(OUTCOMES.names) - set(outcomes) == loose


def test_rejections_are_those_of_the_generator() -> None:
    assert tuple(Reason) == REJECTION_REASONS
    assert [name for name in OUTCOMES.names if name.startswith("rejected_")] == [f"rejected_{r}" for r in Reason]


def test_steps_are_those_of_the_generator() -> None:
    timed = [field.name for field in dataclasses.fields(StepSeconds)]
    assert list(STEPS) == ["read", "decode_image", *timed]


def test_a_table_can_be_made_from_rows() -> None:
    row = {"session": "s", "sequence": 1, "annotator": "a", "stage": "audit", "action": "click", "active": 0.5}
    assert pa.Table.from_pylist([row | {"happened_at": 0}], schema=EVENTS).to_pylist()[0]["action"] == "click"


def test_times_are_stored_in_utc() -> None:
    for text in ("2026-01-31T12:00:00+03:00", "2026-01-31T09:00:00+00:00", "2026-01-31T09:00:00"):
        assert as_stored(datetime.fromisoformat(text)) == datetime(2026, 1, 31, 9)
