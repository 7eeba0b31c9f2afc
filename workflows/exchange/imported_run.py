"""The record of a run whose masks somebody else made."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from schemas import ids
from schemas.records import RunRecord
from schemas.tables import Stage
from workflows.exchange.readers import IncomingSource
from workflows.redact import redact
from workflows.runs import package_versions

IMPORTED = "imported"
"""Name of the model and recipe that are not known here."""
_NO_MODEL = "0" * 64


def imported_run(source: IncomingSource) -> RunRecord:
    """The same source is the same run; another content of it is another."""
    recipe = {"kind": source.kind, "digest": source.digest}
    return RunRecord(
        run_id=ids.run_id(_NO_MODEL, ids.canonical_json(recipe), name="import"),
        name="import",
        created_at=datetime.now(UTC),
        stage=Stage.AUTOMATIC,
        round=None,
        model_name=IMPORTED,
        model_id=ids.model_id(IMPORTED, _NO_MODEL),
        model_sha256=_NO_MODEL,
        recipe_name=IMPORTED,
        recipe=recipe,
        config={"source": redact(source.name)},
        versions=package_versions(),
        seed=0,
        dtype="none",
        device="none",
        kernels="none",
        host=socket.gethostname(),
    )
