from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from sam_core.masks.batch import Reason, StepSeconds
from schemas.parquet import from_parquet_bytes, to_parquet_bytes
from schemas.tables import MASKS, OUTCOMES, REJECTION_REASONS, STEPS, Status
from schemas.validate import check_shard
from tests.workflows.fakes import half_mask, run_record
from workflows.convert import ImageResult, mask_records, mask_table, outcome_table

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone(timedelta(hours=2)))


def result(image_id: str, **rest: object) -> ImageResult:
    return ImageResult(image_id, Status.OK, START, START + timedelta(seconds=3), 0.125, 0.5, **rest)  # type: ignore[arg-type]


def test_the_two_houses_agree_on_words() -> None:
    assert tuple(Reason) == REJECTION_REASONS
    assert {field.name for field in fields(StepSeconds)} | {"read", "decode_image"} == set(STEPS)


def test_rows_of_a_shard_are_sound_and_balance() -> None:
    results = [
        result("a" * 32, generation=half_mask((6, 8))),
        ImageResult("b" * 32, Status.ERROR, START, START, error_class="Empty", error_message="no bytes"),
        result("c" * 32, generation=half_mask((10, 4))),
    ]
    masks, outcomes = mask_table(run_record(), results), outcome_table("run", 4, results)
    check_shard(masks, outcomes)
    assert masks.schema.equals(MASKS)
    assert outcomes.schema.equals(OUTCOMES)
    assert masks["mask_id"].to_pylist() == [f"run.{letter * 32}.00000" for letter in "ac"]
    assert outcomes["n_masks"].to_pylist() == [1, 0, 1]
    assert outcomes["candidates"].to_pylist() == [3, 0, 3]
    assert outcomes["seconds_read"].to_pylist() == [0.125, 0.0, 0.125]


def test_times_are_utc_without_a_zone() -> None:
    results = [result("a" * 32, generation=half_mask((6, 8)))]
    outcomes = outcome_table("run", 0, results)
    assert outcomes["started_at"].to_pylist() == [datetime(2026, 1, 1, 10, 0, 0)]
    created = run_record().created_at.astimezone(UTC).replace(tzinfo=None)
    assert mask_table(run_record(), results)["created_at"].to_pylist() == [created]


def test_masks_come_back_from_rows_as_they_went_in() -> None:
    records = half_mask((6, 8)).masks
    table = mask_table(run_record(), [result("a" * 32, generation=half_mask((6, 8)))])
    back = mask_records(from_parquet_bytes(to_parquet_bytes(table)))
    for field in fields(records):
        before, after = getattr(records, field.name), getattr(back, field.name)
        assert np.array_equal(before, after), field.name
        assert getattr(before, "dtype", None) == getattr(after, "dtype", None), field.name


def test_an_image_without_masks_has_no_rows() -> None:
    table = mask_table(run_record(), [])
    assert len(table) == 0
    assert table.schema.equals(MASKS)
    with pytest.raises(ValueError, match="no mask rows"):
        mask_records(table)
