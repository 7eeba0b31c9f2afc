"""Simulated annotators go on where people have stopped in the middle of a round."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from schemas.layout import annotations_key, events_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import EVENTS
from tests.schemas.rows import NAIVE_START, annotation
from tests.workflows.rounds.conftest import Document, Opened
from workflows.rounds.config import parse_engine
from workflows.rounds.engine import Engine, WaitingError, run_rounds
from workflows.rounds.outcomes import Prefilled, Staged, from_details
from workflows.rounds.steps import STEPS

_PROPOSED = "SELECT mask_id, height, width FROM masks WHERE run_id = ? AND image_id = ? ORDER BY mask_id"


def test_what_people_decided_is_not_decided_again(document: Document, opened: Opened) -> None:
    """Neither is an image done twice, nor does a proposal become two masks."""
    document["stages"][1]["images"] = 3
    document["detector"] |= {"least": 1e-6, "precision": 1e-6, "most": 5}
    document["simulation"]["keep_iou"] = 1e-9  # so that every proposal which touches an object is kept
    config = parse_engine(document, where="engine.yaml")
    run_rounds(opened(config), STEPS, most=9, tell=lambda _: None)
    engine = opened(config, simulate=False)
    with pytest.raises(WaitingError, match="round 2 waits for 3 of 3 images"):
        run_rounds(engine, STEPS, tell=lambda _: None)
    finished, skipped, begun = from_details(Staged, engine.read(2).details).queue
    accepted = _accept(engine, finished, 1, most=1000) + _accept(engine, begun, 2, most=1)
    _note(engine, finished, "finish", 1)
    _note(engine, skipped, "skip", 2)

    run_rounds(opened(config), STEPS, most=1, tell=lambda _: None)
    connection = engine.connect()
    drawn = "SELECT DISTINCT image_id FROM annotation_revisions WHERE round = 2 AND annotator = 'simulated'"
    assert connection.execute(drawn).fetchall() == [(begun,)]
    decided = connection.execute(
        "SELECT annotator FROM annotation_revisions WHERE list_contains(?, source_mask_id)", [accepted]
    )
    assert decided.fetchall() == [("ada",)] * len(accepted)
    assert len(accepted) > 1


def _accept(engine: Engine, image: str, part: int, *, most: int) -> list[str]:
    """A person accepts the first proposals on an image, as the app notes it; which."""
    run_id = from_details(Prefilled, engine.read(2).details).run_id
    found = engine.connect().execute(_PROPOSED, [run_id, image]).fetchall()[:most]
    of = {"image_id": image, "round": 2, "stage": "semi_automatic"}
    rows = [
        annotation(f"{mask}.semi_automatic.2", 1, np.ones(size, np.bool_), source_mask_id=mask, **of)
        for mask, *size in found
    ]
    if rows:
        engine.store.put(annotations_key("ada", part), to_parquet_bytes(pa.concat_tables(rows)))
    return [mask for mask, *_ in found]


def _note(engine: Engine, image: str, action: str, part: int) -> None:
    row = {"session": "ada", "sequence": part, "annotator": "ada", "image_id": image, "round": 2}
    row |= {"stage": "semi_automatic", "action": action, "active": 0.0, "happened_at": NAIVE_START}
    engine.store.put(events_key("ada", part), to_parquet_bytes(pa.Table.from_pylist([row], schema=EVENTS)))
