"""What a data set says after its rounds, so that a disturbed engine can be compared with a calm one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas.catalog import connect
from schemas.tables import ANNOTATIONS, EVENTS, deterministic_columns

CLOCKS = {"seconds", "machine_hours", "cost"}


def state_of(root: Path) -> dict[str, Any]:
    """Everything that a data set says and no clock decides."""
    connection = connect(root)
    rounds = connection.execute(
        "SELECT number, state, model_before, model_after, promoted, reason, metrics, details FROM rounds ORDER BY 1"
    ).fetchall()
    told = [(*row[:6], _without(row[6]), _without(row[7])) for row in rounds]
    tables = {
        name: connection.sql(
            f"SELECT {', '.join(deterministic_columns(schema))} FROM {view} ORDER BY ALL"
        ).to_arrow_table()
        for name, view, schema in (("a", "annotation_revisions", ANNOTATIONS), ("e", "events", EVENTS))
    }
    masks = connection.sql("SELECT mask_id, area, rle, round, stage FROM masks ORDER BY 1").to_arrow_table()
    files = {
        key: (root / key).read_bytes()
        for key in sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        if key.endswith(("snapshot.parquet", "detector.safetensors", "model.safetensors"))
    }
    return {"rounds": told, "masks": masks, "files": files, **tables}


def _without(text: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(text).items() if name not in CLOCKS}
