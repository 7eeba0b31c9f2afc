"""Every field of a save, as it is stored and as it is shown again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.tables import Stage
from tests.workflows.annotate.conftest import MOMENT, add_run, blob, body, client_of, event_row, mask_row
from workflows.annotate import journal as module
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.contract import Save
from workflows.annotate.journal import Journal, PastEvent, Task
from workflows.annotate.studio import Studio, open_studio
from workflows.storage import LocalStore
from workflows.stored_tables import get_table

IMAGE = "ab" * 16
TASK = Task(Stage.ASSISTED_MANUAL, 3, "model-1")


def journal(root: Path) -> Journal:
    return Journal(LocalStore(root), TASK, {IMAGE: (48, 64)})


def save(annotator: str = "Ada", **said: object) -> Save:
    return Save.model_validate(body(annotator, **said))  # type: ignore[arg-type]


def test_all_that_is_said_of_a_mask_is_kept(tmp_path: Path) -> None:
    said = {"model_id": "model-1", "source_mask_id": "run.x.00001", "predicted_iou": 0.75, "stability_score": 0.875}
    said |= {"point": (31.5, 12.25), "clicks": 4, "brushed": 17, "seconds": 6.5}
    mask = np.zeros((48, 64), bool)
    mask[5:20, 30:41] = True
    journal(tmp_path).save("s", 1, save(masks=[mask_row(IMAGE, mask, revision=2, **said)]))
    (row,) = journal(tmp_path).masks_of(IMAGE)
    point = said.pop("point")
    assert {name: row[name] for name in said} == said
    assert (row["point_x"], row["point_y"]) == point
    assert [row[f"bbox_{side}"] for side in "xywh"] == [30, 5, 11, 15]
    assert (row["height"], row["width"], row["area"], row["revision"], row["round"]) == (48, 64, 165, 2, 3)


def test_events_are_told_in_the_order_in_which_they_happened(tmp_path: Path) -> None:
    """Whatever the sessions are called; not those of another round or stage, nor those that are about no image."""
    told = journal(tmp_path)
    for session, second, action in (("z", 1, "open"), ("a", 3, "send_back"), ("m", 2, "finish")):
        moment = (MOMENT + timedelta(seconds=second)).isoformat()
        told.save(session, 1, save(events=[event_row(1, action, IMAGE, happened_at=moment)]))
    told.save("b", 1, save(events=[event_row(1, "reminder", None)]))
    assert [event.action for event in journal(tmp_path).past_events()] == ["open", "finish", "send_back"]
    for other in (replace(TASK, round=4), replace(TASK, stage=Stage.AUDIT)):
        assert list(Journal(LocalStore(tmp_path), other, {IMAGE: (48, 64)}).past_events()) == []


class AtOnce(ThreadPoolExecutor):
    """Does what it is given before it answers, however slowly the answers are taken."""

    def submit(self, work: Callable[..., Any], *given: Any, **named: Any) -> Future[Any]:
        done = super().submit(work, *given, **named)
        wait([done])
        return done


def test_a_start_holds_little_of_what_was_done_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teams leave hundreds of thousands of saves: few files are ahead of the one that is looked at, outlines are not
    read, and events are made one by one."""
    told = journal(tmp_path)
    for part in range(1, 151):
        seen = [event_row(2 * part + step, action, IMAGE) for step, action in enumerate(("click", "finish"))]
        told.save("s", part, save(masks=[mask_row(IMAGE, blob(48, 64))], events=seen))
    read: list[list[str]] = []
    made: list[PastEvent] = []

    def spied(store: LocalStore, key: str, columns: Sequence[str] | None = None) -> pa.Table:
        read.append((table := get_table(store, key, columns)).column_names)
        return table

    monkeypatch.setattr(module, "get_table", spied)
    monkeypatch.setattr(module, "ThreadPoolExecutor", AtOnce)
    ahead: list[int] = []
    index = Journal._index
    monkeypatch.setattr(Journal, "_index", lambda *given: (ahead.append(len(read) - len(ahead)), index(*given)))
    past = module._past
    monkeypatch.setattr(module, "_past", lambda row: made.append(past(row)) or made[-1])
    started = journal(tmp_path)
    assert len(ahead) == 150
    assert max(ahead) <= 64
    assert not any("rle" in names for names in read)
    events = started.past_events()
    next(events)
    assert len(made) == 1
    assert sum(1 for _ in events) == 299


def test_what_is_shown_of_a_mask(studio: Studio) -> None:
    image = next(iter(studio.images))
    said = {"predicted_iou": 0.75, "stability_score": 0.875, "point": [31.5, 12.25], "model_id": "m"}
    with client_of(studio) as client:
        client.put("/api/sessions/s1/parts/1", json=body(masks=[mask_row(image, blob(48, 64), **said)]))
        (shown,) = client.get(f"/api/images/{image}/masks").json()
    assert {name: shown[name] for name in said} == said


def test_a_save_that_comes_while_masks_are_read_hides_no_proposal(
    config: AnnotateConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What became of it is shown with the next look; in between it is neither missing nor there twice."""
    add_run(config)
    studio = open_studio(replace(config, stage="semi-automatic"))
    image = next(iter(studio.images))
    (proposed,) = studio.masks(image)
    studio.save("s", 1, save(masks=[mask_row(image, blob(48, 64))]))
    changed = mask_row(image, blob(48, 64), mask_id="m2", source_mask_id=proposed.mask_id)

    def overtaken(store: LocalStore, key: str) -> pa.Table:
        studio.save("t", 1, save(masks=[changed]))
        return get_table(store, key)

    monkeypatch.setattr(module, "get_table", overtaken)
    assert [shown.mask_id for shown in studio.masks(image)] == ["m1", proposed.mask_id]
    assert [shown.mask_id for shown in studio.masks(image)] == ["m1", "m2"]
