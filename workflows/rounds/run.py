"""The subcommand `rounds`: run, resume, status."""

from __future__ import annotations

import sys

from schemas.catalog import query
from schemas.layout import DATASET_KEY
from workflows.commands import SqlConfig
from workflows.rounds.commands import RoundsConfig
from workflows.rounds.config import EngineConfig, read_engine
from workflows.rounds.engine import Engine, Means, WaitingError, open_engine, run_rounds
from workflows.rounds.outlook import after_people, outlook
from workflows.rounds.steps import STEPS
from workflows.sql import connect, sql, write_table
from workflows.storage import open_store

_STATUS = """
SELECT round, stage, state, promoted, masks_per_image, round(clicks_per_mask, 1) AS clicks_per_mask,
    round(seconds_per_mask, 1) AS seconds_per_mask, round(100 * base_miou, 1) AS base_miou,
    round(100 * held_out_miou, 1) AS held_out_miou, round(clicks_to_090, 2) AS clicks_to_090,
    round(100 * average_recall, 1) AS average_recall, round(100 * prefill_precision, 1) AS prefill_precision,
    model_before, model_after, reason
FROM round_summary
"""
_TABLE = f"""
SELECT round, stage,
    CASE WHEN state <> 'finished' THEN state WHEN promoted THEN 'promoted' ELSE 'not promoted' END AS state,
    round(masks_per_image, 1) AS "masks/image", clicks_per_mask AS "clicks/mask", seconds_per_mask AS "s/mask",
    prefill_precision AS "prefill %", held_out_miou AS "one click", clicks_to_090 AS "to 0.9"
FROM ({_STATUS})
"""
"""What fits on a terminal."""
_REASONS = "SELECT round, reason FROM round_summary WHERE reason IS NOT NULL"


def rounds(config: RoundsConfig) -> int:
    """The subcommand; exit status 0, also where people have to work before it can go on.

    Raises ValueError or OSError, one line each.
    """
    described = read_engine(config.engine)
    if config.action == "status":
        if not open_store(described.dataset).exists(DATASET_KEY):
            raise ValueError(f"{described.dataset}: no round has begun; `sam-engine rounds run` begins the first")
        return _tell_status(config, described)
    return _go_on(config, described)


def _tell_status(config: RoundsConfig, described: EngineConfig) -> int:
    if config.json:
        return sql(SqlConfig(described.dataset, _STATUS, format="json"))
    from workflows.train.job import train

    connection = connect(described.dataset)
    write_table(query(connection, _TABLE), sys.stdout)
    print()
    for number, reason in connection.execute(_REASONS).fetchall():
        print(f"round {number}: {reason}")
    print(outlook(Engine(described, open_store(described.dataset), Means(train), simulate=False), config.engine))
    return 0


def _go_on(config: RoundsConfig, described: EngineConfig) -> int:
    from workflows.train.job import train

    engine = open_engine(described, Means(train), simulate=config.simulate)
    if config.action == "resume" and engine.read(1) is None:
        raise ValueError(f"{described.dataset} has no round to go on with; `sam-engine rounds run` begins the first")
    try:
        over = run_rounds(engine, STEPS, most=config.steps)
    except WaitingError as waiting:
        print(f"{waiting}\n{after_people(config.engine)}")
        return 0
    print(f"{described.dataset}: {'all rounds are done' if over else 'stopped; the same command goes on'}")
    return 0
