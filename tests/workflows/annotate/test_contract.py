"""What may travel."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from fastapi.testclient import TestClient

from schemas.layout import events_key
from tests.workflows.annotate.conftest import body, client_of, event_row
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.studio import Studio, open_studio
from workflows.sql import connect

JSON = {"content-type": "application/json"}


def test_half_a_character_in_a_note_holds_nobody_up(config: AnnotateConfig, client: TestClient, studio: Studio) -> None:
    """It was kept as it came, and from then on no list of images and no SQL on details was answered, to whomever."""
    details = {"note": "no \ud83d", "\ud83d": 1}
    save = json.dumps(body("Rita", events=[event_row(1, "send_back", next(iter(studio.images)), details=details)]))
    assert client.put("/api/sessions/r/parts/1", content=save, headers=JSON).status_code == 200
    assert client.get("/api/queue").json()[0]["note"] == "no ?"
    notes = connect(config.dataset).execute("SELECT details ->> 'note' FROM events").fetchall()
    assert notes == [("no ?",)]


def test_half_a_character_that_was_kept_before_holds_nobody_up(
    config: AnnotateConfig, client: TestClient, studio: Studio
) -> None:
    event = event_row(1, "send_back", next(iter(studio.images)), details={"note": "no"})
    assert client.put("/api/sessions/r/parts/1", json=body("Rita", events=[event])).status_code == 200
    path = Path(config.dataset, events_key("r", 1))
    kept = pq.read_table(path, partitioning=None)  # of older pyarrow session=r in its name is a column
    column = kept.schema.get_field_index("details")
    pq.write_table(kept.set_column(column, kept.schema.field(column), [['{"note": "no \\ud83d"}']]), path)
    assert client_of(open_studio(config)).get("/api/queue").json()[0]["note"] == "no ?"


def test_the_list_of_images_is_compressed_for_who_takes_that(client: TestClient, studio: Studio) -> None:
    """Of 300,000 images it is 47 MB."""
    plain = client.get("/api/queue", headers={"Accept-Encoding": "identity"})
    small = client.get("/api/queue", headers={"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"])
    assert {answer.headers["content-type"] for answer in (plain, small)} == {"application/json"}
    assert plain.json() == small.json()
    assert [item["image_id"] for item in plain.json()] == list(studio.images)
