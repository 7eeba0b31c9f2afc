"""What people did in a round, out of the rows that the app writes, and what they are told to do next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from schemas.layout import annotations_key, events_key
from schemas.parquet import to_parquet_bytes
from schemas.tables import EVENTS
from tests.schemas.rows import NAIVE_START, annotation, discs
from tests.workflows.conftest import Engine as Command
from tests.workflows.rounds.conftest import Document, Opened, finish
from workflows.rounds.candidates import note_images
from workflows.rounds.config import EngineConfig, parse_engine
from workflows.rounds.engine import Engine, WaitingError, run_rounds
from workflows.rounds.outcomes import Annotated, Staged, from_details
from workflows.rounds.outlook import outlook
from workflows.rounds.steps import STEPS

BITMAP = discs(1)[0]
Do = Callable[..., None]


@pytest.fixture
def waiting(document: Document, opened: Opened) -> Engine:
    """An engine whose first round, of two images, waits for people."""
    document["stages"] = [{"stage": "assisted_manual", "images": 2}]
    engine = opened(parse_engine(document, where="engine.yaml"), simulate=False)
    with pytest.raises(WaitingError, match="waits for 2 of 2 images"):
        finish(engine)
    return engine


@pytest.fixture
def do(waiting: Engine) -> Do:
    """Writes an event of an image of the queue, a second after the one before."""
    done = 0

    def act(place: int, action: str, annotator: str = "ada") -> None:
        nonlocal done
        done += 1
        row = {"session": annotator, "sequence": done, "annotator": annotator, "image_id": queue_of(waiting)[place]}
        row |= {"round": 1, "stage": "assisted_manual", "action": action, "active": 0.0}
        row |= {"happened_at": NAIVE_START + timedelta(seconds=done)}
        table = pa.Table.from_pylist([row], schema=EVENTS)
        waiting.store.put(events_key(annotator, done), to_parquet_bytes(table))

    return act


def queue_of(engine: Engine) -> tuple[str, ...]:
    return from_details(Staged, engine.read(1).details).queue


def test_an_image_that_a_reviewer_sent_back_is_waited_for(waiting: Engine, do: Do) -> None:
    do(0, "finish")
    do(1, "finish")
    do(0, "send_back", "bob")
    with pytest.raises(WaitingError, match="waits for 1 of 2 images"):
        finish(waiting)
    assert outlook(waiting, "e").startswith("round 1 waits for 1 of 2 images")
    do(0, "finish")
    do(1, "accept", "bob")
    ready = "round 1: all images are finished or skipped, `sam-engine rounds run e` goes on"
    assert outlook(waiting, "e") == ready
    assert run_rounds(waiting, STEPS, most=1, tell=lambda _: None) is False


def test_who_skips_what_was_sent_back_is_not_waited_for(waiting: Engine, do: Do) -> None:
    do(0, "skip")
    for action in ("finish", "send_back", "skip"):
        do(1, action)
    assert run_rounds(waiting, STEPS, most=1, tell=lambda _: None) is False


def test_an_image_that_was_audited_is_not_annotated_by_that(document: Document, opened: Opened) -> None:
    document["stages"] = [{"stage": "assisted_manual", "images": 6}]
    config = parse_engine(document, where="engine.yaml")
    engine = opened(config, simulate=False)
    note_images(config.images, engine.store)
    everything = [image for (image,) in engine.connect().execute("SELECT image_id FROM images").fetchall()]
    for part, (image, stage) in enumerate(zip(everything[:2], ("audit", "assisted_manual"), strict=True), start=1):
        row = {"session": "ada", "sequence": part, "annotator": "ada", "image_id": image, "stage": stage}
        row |= {"action": "finish", "active": 0.0, "happened_at": NAIVE_START}
        engine.store.put(events_key("ada", part), to_parquet_bytes(pa.Table.from_pylist([row], schema=EVENTS)))
    run_rounds(engine, STEPS, most=1, tell=lambda _: None)
    assert set(queue_of(engine)) == set(everything) - {everything[1]}


def test_what_becomes_of_proposals_is_counted(waiting: Engine, do: Do) -> None:
    """Revision 1 is one that was accepted untouched, 2 what a person made of one; which counts for more, whoever did
    the other in another tab."""
    image = queue_of(waiting)[0]
    said = [
        ("kept", 1, False),
        *(("changed", 1, False), ("changed", 2, False)),
        ("deleted", 2, True),
        *(("deleted later", 1, False), ("deleted later", 2, True)),
    ]
    for part, (mask, revision, deleted) in enumerate(said, start=1):
        row = {"image_id": image, "round": 1, "source_mask_id": f"{mask} of a run", "deleted": deleted, "clicks": 0}
        if (mask, revision) == ("changed", 2):
            row |= {"clicks": 4, "seconds": 7.0}
        table = annotation(mask, revision, BITMAP, **row)
        waiting.store.put(annotations_key("s", part), to_parquet_bytes(table))
    others = [
        annotation("brushed", 1, BITMAP, image_id=image, round=1, clicks=0, brushed=9),
        annotation("clicked", 1, BITMAP, image_id=image, round=1, clicks=2),
        annotation("audited", 1, BITMAP, image_id=image, round=1, stage="audit", clicks=50),
        annotation("of another round", 1, BITMAP, image_id=image, round=7, clicks=50),
    ]
    waiting.store.put(annotations_key("s", 9), to_parquet_bytes(pa.concat_tables(others)))
    do(0, "finish")
    do(1, "finish")
    told: list[str] = []
    assert run_rounds(waiting, STEPS, most=1, tell=told.append) is False
    annotated = from_details(Annotated, waiting.read(1).details)
    assert (annotated.masks, annotated.kept, annotated.deleted) == (5, 1, 2)
    assert (annotated.worked_on, annotated.clicks) == (3, 6)
    assert (annotated.drawing_seconds, annotated.seconds) == (7 + 3 + 3, 7 + 5 * 3 + 3 + 3)
    assert told == ["round 1 (assisted_manual): annotate done: 5 masks on 2 images"]


def test_what_is_to_be_done_next_is_said(
    config: EngineConfig, document: Document, opened: Opened, tmp_path: Path, engine: Command
) -> None:
    """By `run` where it ends, and by `status` in every state."""
    path = tmp_path / "the team's engine.yaml"
    path.write_text(yaml.safe_dump(document))
    run_rounds(opened(config), STEPS, most=1, tell=lambda _: None)
    ended = engine("rounds", "run", path)
    assert ended.status == 0
    again = f"""`sam-engine rounds run '{tmp_path}/the team'"'"'s engine.yaml'`"""
    waits = ended.out.strip().splitlines()
    assert waits[0].startswith("round 1 waits for 2 of 2 images to be annotated")
    assert waits[1].strip().startswith("sam-engine annotate ")
    assert waits[2] == f"when each is finished or skipped, {again} goes on"
    assert _status(engine, path)[-3:] == waits

    run_rounds(opened(config), STEPS, most=2, tell=lambda _: None)
    assert _status(engine, path)[-1] == f"round 1 goes on with train: {again} does it, if none is at work already"
    path.write_text(yaml.safe_dump(document | {"seed": 3}))
    assert _status(engine, path)[-1].startswith("round 1 was begun with other settings than engine.yaml has now: seed")
    path.write_text(yaml.safe_dump(document))
    finish(opened(config))
    assert _status(engine, path)[-1] == "all rounds are done"
    path.write_text(yaml.safe_dump(document | {"stages": [*document["stages"], {"stage": "automatic"}]}))
    assert _status(engine, path)[-1] == f"round 3 (automatic) comes next: {again} begins it"


def _status(engine: Command, path: Path) -> list[str]:
    shown = engine("rounds", "status", path)
    assert shown.status == 0, shown.err
    return shown.out.strip().splitlines()
