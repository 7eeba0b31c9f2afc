"""Two drivers of the same rounds: what the first has settled, the second does not spoil before it stops."""

from __future__ import annotations

import os

import numpy as np
import pytest

from schemas.catalog import connect
from schemas.layout import annotations_key
from schemas.parquet import to_parquet_bytes
from tests.schemas.rows import annotation
from tests.workflows.rounds.conftest import Opened
from workflows.rounds import steps
from workflows.rounds.config import EngineConfig
from workflows.rounds.engine import Engine, Round, Step, run_rounds
from workflows.rounds.outcomes import Snapshot
from workflows.rounds.steps import STEPS


def test_the_masks_that_one_driver_froze_are_those_that_are_trained_on(
    config: EngineConfig, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that was overtaken put its snapshot in the place of the other's. With a mask more in it, that one's
    round ended as damaged."""

    def overtaken(now: Round) -> Snapshot:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 4242)
            run_rounds(opened(config), STEPS, most=1, tell=lambda _: None)
        _draw(now.engine)
        return steps.snapshot(now)

    slow = [Step(Snapshot, overtaken) if step.kind is Snapshot else step for step in STEPS["assisted_manual"]]
    with pytest.raises(ValueError, match=r"process 4242 on .* has done snapshot meanwhile"):
        run_rounds(opened(config), {**STEPS, "assisted_manual": slow}, tell=lambda _: None)
    run_rounds(opened(config), STEPS, most=3, tell=lambda _: None)  # train, evaluate, gate
    rows = connect(config.dataset).sql("SELECT model_after, reason FROM round_summary WHERE round = 1").fetchall()
    assert rows[0][0] is not None, rows[0][1]


def _draw(engine: Engine) -> None:
    """Somebody draws one more mask on an image that has some."""
    one = "SELECT image_id, height, width FROM annotations ORDER BY mask_id LIMIT 1"
    ((image, *size),) = engine.connect().execute(one).fetchall()
    mask = annotation("late", 1, np.ones(size, np.bool_), image_id=image, round=1, stage="assisted_manual")
    engine.store.put(annotations_key("late", 1), to_parquet_bytes(mask))
