"""The record of a run whose masks somebody else made."""

from __future__ import annotations

from schemas.records import RunRecord
from workflows.exchange.readers import IncomingSource
from workflows.redact import redact
from workflows.runs import run_record

IMPORTED = "imported"
"""Name of the model and recipe that are not known here."""
_NO_MODEL = "0" * 64


def imported_run(source: IncomingSource) -> RunRecord:
    """The same source is the same run; another content of it is another."""
    return run_record(
        name="import",
        model_name=IMPORTED,
        model_sha256=_NO_MODEL,
        recipe_name=IMPORTED,
        recipe={"kind": source.kind, "digest": source.digest},
        config={"source": redact(source.name)},
        dtype="none",
        device="none",
        kernels="none",
    )
