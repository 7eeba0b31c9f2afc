"""What the annotators of a round are given, whether they are done, and what they did."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime

import duckdb

from schemas.tables import Stage
from workflows.rounds.outcomes import Annotated

_SETTLED = """
SELECT image_id FROM events WHERE round = ? AND stage = ? AND action IN ('finish', 'skip', 'accept', 'send_back')
GROUP BY image_id
HAVING arg_max(action, {happened_at: happened_at, session: session, sequence: sequence}) <> 'send_back'
"""
_TOLD = """
WITH mine AS (FROM annotation_revisions WHERE round = $round AND stage = $stage),
latest AS (
    FROM mine
    QUALIFY row_number() OVER (PARTITION BY mask_id ORDER BY revision DESC, created_at DESC, session DESC) = 1
),
finished AS (SELECT DISTINCT image_id FROM events WHERE round = $round AND stage = $stage AND action = 'finish')
SELECT
    (SELECT count(*) FROM finished) AS images,
    (SELECT count(*) FROM annotations SEMI JOIN finished USING (image_id) WHERE stage <> 'audit') AS masks,
    (SELECT count(*) FROM latest WHERE source_mask_id IS NOT NULL AND NOT deleted AND revision = 1) AS kept,
    (SELECT count(*) FROM latest WHERE source_mask_id IS NOT NULL AND deleted) AS deleted,
    count(DISTINCT mask_id) FILTER (clicks > 0 OR brushed > 0) AS worked_on,
    coalesce(sum(clicks), 0)::BIGINT AS clicks,
    coalesce(sum(seconds) FILTER (clicks > 0 OR brushed > 0), 0)::DOUBLE AS drawing_seconds,
    coalesce(sum(seconds), 0)::DOUBLE AS seconds
FROM mine
"""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the annotators of a round are given. run_id: of prefilled masks, None in the assisted-manual stage."""

    number: int
    stage: Stage
    queue: tuple[str, ...]
    run_id: str | None
    begun: datetime


def unfinished(connection: duckdb.DuckDBPyConnection, work: Assignment) -> set[str]:
    """The images of the queue that nobody has finished or skipped since a reviewer sent them back, if one did.

    The app skips those that cannot be opened, and offers a skipped one to others alone, of whom there may be none.
    """
    done = {row[0] for row in connection.execute(_SETTLED, [work.number, str(work.stage)]).fetchall()}
    return set(work.queue) - done


def told(connection: duckdb.DuckDBPyConnection, work: Assignment) -> Annotated:
    """What was done in a round, out of the annotation tables."""
    answer = connection.execute(_TOLD, {"round": work.number, "stage": str(work.stage)})
    names = [column[0] for column in answer.description]
    (row,) = answer.fetchall()
    return Annotated(**dict(zip(names, row, strict=True)))


def invitation(dataset: str, model_path: str, work: Assignment) -> str:
    """The command that lets people do the work."""
    images = f"SELECT image_id FROM round_queue WHERE round = {work.number} ORDER BY place"
    words = ["sam-engine", "annotate", dataset, "--stage", work.stage.replace("_", "-"), "--model", model_path]
    words += ["--round", str(work.number), "--images", images]
    return shlex.join(words + (["--run", work.run_id] if work.run_id else []))
