"""JSON records: what goes in comes out, and what cannot be understood is refused in one line."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from schemas.records import DatasetRecord, ModelRecord, RoundRecord, RunRecord, from_json, records_table, to_json
from tests.schemas.rows import START, run_record

MODEL = ModelRecord(
    model_id="vit_n-0",
    name="vit_n",
    sha256="0" * 64,
    created_at=START,
    parent=None,
    round=2,
    training={"steps": 10, "data": ["scenes"]},
    metrics={"one_click_miou": 0.5},
)
ROUND = RoundRecord(
    number=1,
    stage="semi_automatic",
    state="evaluate",
    started_at=START,
    finished_at=None,
    model_before="vit_n-0",
    model_after="vit_n-1",
    promoted=True,
    reason="better",
    metrics={"held_out_miou": 0.6},
    details={"queue": [1, 2]},
)


@pytest.mark.parametrize("record", [DatasetRecord(name="x", created_at=START), run_record(), MODEL, ROUND])
def test_round_trip(record: DatasetRecord | RunRecord | ModelRecord | RoundRecord) -> None:
    text = to_json(record)
    assert from_json(type(record), text, where="here") == record  # type: ignore[type-var]
    assert to_json(from_json(type(record), text.encode(), where="here")) == text  # type: ignore[type-var]
    assert json.loads(text)["format_version"] == 1
    assert text.endswith("}\n")


def test_times_are_written_in_utc() -> None:
    east = START.astimezone(timezone(timedelta(hours=3)))
    assert to_json(DatasetRecord(name="x", created_at=east)) == to_json(DatasetRecord(name="x", created_at=START))


def edited(**changes: object) -> str:
    return json.dumps(json.loads(to_json(run_record())) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "runs/r.json is not JSON"),
        ("[]", "is not a record of this program: it has no format_version"),
        ("{}", "is not a record of this program: it has no format_version"),
        (edited(format_version="1"), "it has no format_version"),
        (
            edited(format_version=2),
            "runs/r.json has format version 2, this program reads up to 1: upgrade sam-data-engine",
        ),
        (edited(colour="red"), "runs/r.json has unknown fields: colour"),
        (edited(seed="zero"), "runs/r.json: seed is 'zero'; it must be int"),
        (edited(seed=True), "seed is True; it must be int"),
        (edited(name=3), "name is 3; it must be NoneType or str"),
        (edited(recipe=[]), r"recipe is \[\]; it must be dict"),
        (edited(created_at="yesterday"), "created_at is 'yesterday'; it must be a time such as"),
        (edited(created_at="2026-01-31T12:00:00"), "it needs a zone"),
        (edited(created_at=5), "created_at is 5; it must be datetime"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        from_json(RunRecord, text, where="runs/r.json")
    assert "\n" not in str(caught.value)


def test_missing_fields_are_named() -> None:
    document = json.loads(to_json(run_record()))
    del document["seed"], document["host"]
    with pytest.raises(ValueError, match=r"runs/r\.json lacks host, seed"):
        from_json(RunRecord, json.dumps(document), where="runs/r.json")


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(ValueError, match="RunRecord cannot be written as JSON"):
        to_json(dataclasses.replace(run_record(), recipe={"threshold": float("nan")}))
    with pytest.raises(ValueError, match="has no zone"):
        to_json(DatasetRecord(name="x", created_at=datetime(2026, 1, 1)))
    with pytest.raises(ValueError, match="is not JSON"):
        to_json(dataclasses.replace(run_record(), config={"source": object()}))


def test_records_become_rows() -> None:
    table = records_table(RunRecord, [run_record(), run_record("other")])
    row = table.to_pylist()[1]
    assert row["run_id"] == "other"
    assert json.loads(row["recipe"]) == {"points_per_side": 32, "min_predicted_iou": 0.88}
    assert row["created_at"].replace(tzinfo=UTC) == START
    assert records_table(RoundRecord, []).schema.field("promoted").type == pa.bool_()
    assert records_table(ModelRecord, []).num_rows == 0
