"""A run made by hand: a few images whose masks come from elsewhere than `generate`, in the same tables."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime

from schemas import ids
from schemas.layout import masks_key, outcomes_key
from schemas.parquet import to_parquet_bytes
from schemas.records import RunRecord
from schemas.tables import Stage
from schemas.validate import check_shard
from workflows.convert import ImageResult, mask_table, outcome_table
from workflows.models import Model
from workflows.runs import package_versions, settle_run
from workflows.storage import Store


def small_run(
    model: Model, *, name: str, round: int, stage: Stage, begun: datetime, recipe: Mapping[str, object], kernels: str
) -> RunRecord:
    """The record of such a run; the same model, recipe and name give the same id."""
    decided = json.dumps(recipe)
    return RunRecord(
        run_id=ids.run_id(model.sha256, decided, name=name),
        name=name,
        created_at=begun,
        stage=stage,
        round=round,
        model_name=model.name,
        model_id=model.model_id,
        model_sha256=model.sha256,
        recipe_name=kernels,
        recipe=json.loads(decided),
        config={},
        versions=package_versions(),
        seed=0,
        dtype="float32",
        device="cpu",
        kernels=kernels,
        host=socket.gethostname(),
    )


def write_run(store: Store, run: RunRecord, results: Sequence[ImageResult]) -> RunRecord:
    """Write the run as one shard: record, masks, and outcomes last, which commit it. Again, it changes nothing."""
    held = settle_run(store, run)
    masks, outcomes = mask_table(held, results), outcome_table(held.run_id, 0, results)
    check_shard(masks, outcomes)
    store.put(masks_key(held.run_id, 0), to_parquet_bytes(masks))
    store.put(outcomes_key(held.run_id, 0), to_parquet_bytes(outcomes))
    return held
