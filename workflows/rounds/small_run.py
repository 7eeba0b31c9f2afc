"""A run made by hand: a few images whose masks come from elsewhere than `generate`, in the same tables."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.layout import masks_key, outcomes_key
from schemas.parquet import to_parquet_bytes
from schemas.records import RunRecord
from schemas.validate import check_shard
from workflows.convert import ImageResult, mask_table, outcome_table
from workflows.runs import settle_run
from workflows.storage import Store


def write_run(store: Store, run: RunRecord, results: Sequence[ImageResult]) -> RunRecord:
    """Write the run as one shard: record, masks, and outcomes last, which commit it. Again, it changes nothing."""
    held = settle_run(store, run)
    masks, outcomes = mask_table(held, results), outcome_table(held.run_id, 0, results)
    check_shard(masks, outcomes)
    store.put(masks_key(held.run_id, 0), to_parquet_bytes(masks))
    store.put(outcomes_key(held.run_id, 0), to_parquet_bytes(outcomes))
    return held
