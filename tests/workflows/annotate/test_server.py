"""The endpoints over a real data set with a tiny model."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pycocotools import mask as coco

from sam_core.honour import honour_clicks
from sam_core.masks.rle import encode
from sam_core.model.checkpoint import load_model
from sam_core.predict import Prompts, decode
from sam_core.predict import encode as encode_image
from schemas.layout import run_key
from schemas.records import to_json
from tests.workflows.annotate.conftest import MOMENT, add_run, blob, body, client_of, event_row, mask_row
from tests.workflows.fakes import half_mask, run_record
from workflows.annotate.commands import AnnotateConfig
from workflows.annotate.studio import Studio, open_studio
from workflows.sql import connect
from workflows.storage import open_store


def rows(config: AnnotateConfig, query: str) -> list[dict[str, Any]]:
    return connect(config.dataset).sql(query).to_arrow_table().to_pylist()


def first(studio: Studio) -> str:
    return next(iter(studio.images))


def test_the_project_says_what_the_client_must_know(client: TestClient, studio: Studio) -> None:
    project = client.get("/api/project").json()
    task = project["task"]
    assert (task["stage"], task["round"], task["run_id"], project["images"]) == ("assisted_manual", None, None, 4)
    assert project["model"]["image_size"] == 64
    assert project["model"]["browser_decoder"] is False
    assert client.get("/api/openapi.json").json()["paths"].keys() >= {"/api/decode", "/api/automatic", "/api/queue"}


def test_a_save_is_read_back_by_sql_pixel_for_pixel(client: TestClient, studio: Studio, config: AnnotateConfig) -> None:
    image = first(studio)
    masks = [blob(48, 64, seed) for seed in range(5)]
    saved = [mask_row(image, mask, mask_id=f"m{i}", clicks=i, seconds=2.5) for i, mask in enumerate(masks)]
    answer = client.put("/api/sessions/s1/parts/1", json=body(masks=saved, events=[event_row(1, "click", image)]))
    assert answer.json() == {"session": "s1", "part": 1}
    found = rows(config, "SELECT * FROM annotations ORDER BY mask_id")
    for row, mask in zip(found, masks, strict=True):
        np.testing.assert_array_equal(coco.decode({"size": [48, 64], "counts": row["rle"]}), mask)
        assert (row["area"], row["annotator"], row["stage"]) == (mask.sum(), "Ada", "assisted_manual")
    assert [row["action"] for row in rows(config, "SELECT action FROM events")] == ["click"]
    shown = client.get(f"/api/images/{image}/masks").json()
    assert [row["rle"] for row in shown] == [encode(mask).decode() for mask in masks]


def test_a_save_sent_twice_counts_once_and_another_one_is_refused(
    client: TestClient, studio: Studio, config: AnnotateConfig
) -> None:
    image = first(studio)
    save = body(masks=[mask_row(image, blob(48, 64))], events=[event_row(1, "save_mask", image)])
    for _ in range(2):
        assert client.put("/api/sessions/s1/parts/1", json=save).status_code == 200
    assert rows(config, "SELECT count(*) AS n FROM annotations") == [{"n": 1}]
    other = body(masks=[mask_row(image, blob(48, 64, 7))])
    answer = client.put("/api/sessions/s1/parts/1", json=other)
    assert (answer.status_code, "new session" in answer.json()["detail"]) == (409, True)


def test_the_latest_revision_stands_and_a_deleted_mask_is_gone(
    client: TestClient, studio: Studio, config: AnnotateConfig
) -> None:
    image = first(studio)
    for revision, mask in ((2, blob(48, 64, 2)), (1, blob(48, 64, 1))):
        row = mask_row(image, mask, revision=revision)
        client.put(f"/api/sessions/s1/parts/{revision}", json=body(masks=[row]))
    (shown,) = client.get(f"/api/images/{image}/masks").json()
    assert shown["rle"] == encode(blob(48, 64, 2)).decode()
    gone = mask_row(image, blob(48, 64, 2), revision=3, deleted=True)
    client.put("/api/sessions/s1/parts/3", json=body(masks=[gone]))
    assert client.get(f"/api/images/{image}/masks").json() == []
    assert rows(config, "SELECT * FROM annotations") == []


def test_a_save_is_kept_as_what_it_says_it_was_made_for(config: AnnotateConfig, studio: Studio) -> None:
    """Also where this server's task leaves the image out; that one's queue is not this one's."""
    image, other = list(studio.images)[:2]
    with client_of(open_studio(replace(config, round=1))) as client:
        task = client.get("/api/project").json()["task"] | {"model_id": "the-one-of-round-1"}
    later = open_studio(replace(config, round=2, images=f"SELECT image_id FROM images WHERE image_id <> '{image}'"))
    save = body(masks=[mask_row(image, blob(48, 64))], events=[event_row(1, "finish", other)]) | {"task": task}
    with client_of(later) as client:
        assert client.put("/api/sessions/s1/parts/1", json=save).status_code == 200
        assert later.item(other).status == "open"
        wrong = save | {"task": task | {"stage": "automatic"}}
        assert client.put("/api/sessions/s2/parts/1", json=wrong).status_code == 422
        elsewhere = client.put("/api/sessions/s2/parts/1", json=save | {"task": task | {"dataset": "other"}})
    assert (elsewhere.status_code, "is of the data set other" in elsewhere.json()["detail"]) == (421, True)
    assert rows(config, "SELECT round FROM annotations") == [{"round": 1}]
    assert rows(config, "SELECT round, model_id FROM events") == [{"round": 1, "model_id": "the-one-of-round-1"}]
    assert open_studio(replace(config, round=1)).item(other).status == "done"


def test_what_is_asked_for_another_task_is_refused(config: AnnotateConfig, studio: Studio) -> None:
    image = first(studio)
    with client_of(studio) as client:
        key = {"X-Task": client.get("/api/project").json()["task_key"]}
        assert client.get("/api/queue", headers=key).status_code == 200
    with client_of(open_studio(replace(config, round=7))) as client:
        for method, path, sent in (
            ("GET", "/api/queue", None),
            ("POST", "/api/queue/next", {"annotator": "Ada"}),
            ("GET", f"/api/images/{image}/embedding", None),
            ("POST", "/api/decode", {"image_id": image, "points": [[1, 2, 1]]}),
        ):
            answer = client.request(method, path, json=sent, headers=key)
            assert (answer.status_code, "(assisted manual, round 7)" in answer.json()["detail"]) == (412, True)


@pytest.mark.parametrize(
    ("change", "status", "complaint"),
    [
        ({"rle": "not an rle \x7f"}, 400, "rle"),
        ({"rle": encode(np.ones((3, 3), bool)).decode()}, 400, "does not cover its image"),
        ({"rle": encode(np.zeros((48, 64), bool)).decode()}, 400, "area below 1"),
        ({"image_id": "0" * 32}, 400, "not in this data set"),
        ({"mask_id": "../../etc"}, 422, "mask_id"),
        ({"revision": 0}, 422, "revision"),
        ({"clicks": 2**64}, 422, "clicks"),
        ({"created_at": "0001-01-01T00:00:00+14:00"}, 422, "created_at"),
        ({"point": [900, 1]}, 400, "point outside"),
        ({"surprise": 1}, 422, "surprise"),
    ],
)
def test_an_unsound_mask_is_refused_in_one_line(
    client: TestClient, studio: Studio, config: AnnotateConfig, change: dict[str, Any], status: int, complaint: str
) -> None:
    row = mask_row(first(studio), blob(48, 64)) | change
    answer = client.put("/api/sessions/s1/parts/1", json=body(masks=[row]))
    assert answer.status_code == status
    assert complaint in str(answer.json()["detail"])
    assert rows(config, "SELECT * FROM annotations") == []


@pytest.mark.parametrize("details", ['{"v": NaN}', '{"v": -Infinity}'])
def test_what_is_no_json_is_no_detail(client: TestClient, details: str) -> None:
    event = f'{{"sequence": 1, "action": "open", "happened_at": "2026-01-01T00:00:00Z", "details": {details}}}'
    text = f'{{"annotator": "ada", "masks": [], "events": [{event}]}}'
    headers = {"content-type": "application/json"}
    assert client.put("/api/sessions/s1/parts/1", content=text, headers=headers).status_code in (400, 422)
    plain = text.replace(details, '{"v": 1.5}')
    assert client.put("/api/sessions/s1/parts/1", content=plain, headers=headers).status_code == 200


def test_names_from_outside_reach_no_other_file(client: TestClient) -> None:
    for path in ("/api/images/..%2f..%2fetc/picture", "/api/images/nothing/picture", "/api/sessions/%2e%2e/parts/1"):
        assert client.get(path).status_code in (404, 405, 422)
    assert client.get("/../../pyproject.toml").status_code == 404
    assert client.get("/api/model/secret.onnx").status_code == 404


def test_decoding_answers_as_the_model_does(client: TestClient, studio: Studio, tiny_checkpoint: Path) -> None:
    import torch

    image = first(studio)
    answer = client.post("/api/decode", json={"image_id": image, "points": [[20, 30, 1]]}).json()
    from workflows.originals import read_pixels

    pixels = read_pixels(studio.assistant._reader, studio.images[image].stored, max_pixels=10**6)
    sam = load_model(tiny_checkpoint).sam
    embedding = encode_image(sam, [pixels])
    prompts = Prompts(points=torch.tensor([[[20.0, 30.0]]]), labels=torch.ones(1, 1, dtype=torch.int64))
    expected = honour_clicks(decode(sam, embedding, prompts, multimask=True), prompts)
    best = int(expected.iou[0].argmax())
    mask = expected.masks()[0, best].numpy()
    found = coco.decode({"size": [48, 64], "counts": answer["candidates"][0]["rle"]})
    assert (found != mask).mean() < 0.01  # the embedding was stored in float16
    assert answer["candidates"][0]["predicted_iou"] == pytest.approx(float(expected.iou[0, best]), abs=5e-3)
    assert answer["candidates"][0]["area"] == found.sum()


def test_prompts_that_say_nothing_or_too_much(client: TestClient, studio: Studio) -> None:
    image = first(studio)
    for request, status in (
        ({"points": []}, 400),
        ({"points": [[1, 2, 7]]}, 422),
        ({"points": [["x", 2, 1]]}, 422),
        ({"box": [1, 2, 3]}, 422),
        ({"box": [9, 2, 3, 8]}, 422),  # the corners the other way round
        ({"points": [[1e39, 2, 1]]}, 422),  # infinite in single precision
        ({"points": [[1, 2, 1]], "mask": "??"}, 400),
        ({"text": "a wheel"}, 400),  # of a model without text prompts
        ({"text": 7}, 422),
    ):
        assert client.post("/api/decode", json={"image_id": image} | request).status_code == status
    assert client.post("/api/decode", json={"image_id": "missing", "points": [[1, 2, 1]]}).status_code == 404


def test_a_mask_to_start_from_changes_the_answer(client: TestClient, studio: Studio) -> None:
    image = first(studio)
    request = {"image_id": image, "points": [[20, 30, 1]], "output": "logits"}
    plain = client.post("/api/decode", json=request).json()
    started = client.post("/api/decode", json=request | {"mask": encode(blob(48, 64)).decode()}).json()
    assert plain["logits"] != started["logits"]


def test_every_mask_of_an_image(client: TestClient, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    sent, found = {"image_id": first(studio), "recipe": "draft"}, half_mask((48, 64)).masks
    answer = client.post("/api/automatic", json=sent)
    assert (answer.status_code, answer.json()["height"], answer.json()["width"]) == (200, 48, 64)
    monkeypatch.setattr(type(studio.assistant), "automatic", lambda *_: found)
    (mask,) = client.post("/api/automatic", json=sent).json()["masks"]
    assert (mask["rle"], mask["bbox"], mask["area"]) == (found.rle[0].decode(), [0, 0, 32, 48], 32 * 48)
    assert (mask["point"], mask["crop_box"]) == ([0.5, 0.5], [0, 0, 64, 48])


def test_pictures_and_embeddings_are_those_of_the_data_set(client: TestClient, studio: Studio) -> None:
    image = first(studio)
    picture = client.get(f"/api/images/{image}/picture")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content == Path(studio.images[image].stored.uri).read_bytes()
    computed = client.get(f"/api/images/{image}/embedding").content
    assert computed == client.get(f"/api/images/{image}/embedding").content
    header = computed[8 : 8 + int.from_bytes(computed[:8], "little")]
    assert studio.assistant.model.sha256.encode() in header


def test_an_image_that_changed_is_refused(client: TestClient, studio: Studio) -> None:
    image = first(studio)
    path = Path(studio.images[image].stored.uri)
    before = path.read_bytes()
    try:
        path.write_bytes(b"other")
        answer = client.get(f"/api/images/{image}/picture")
        assert (answer.status_code, "other bytes" in answer.json()["detail"]) == (422, True)
    finally:
        path.write_bytes(before)


def test_a_limit_on_pixels_is_one_on_bytes(config: AnnotateConfig) -> None:
    studio = open_studio(replace(config, max_pixels=4000))
    image = first(studio)
    path = Path(studio.images[image].stored.uri)
    before = path.read_bytes()
    try:
        os.truncate(path, 65 << 20)
        answer = client_of(studio).get(f"/api/images/{image}/picture")
        assert answer.status_code == 422
        assert "68,157,440 bytes are more than the limit of 67,140,864 bytes" in answer.json()["detail"]
    finally:
        path.write_bytes(before)


def test_images_that_are_too_large_are_said(config: AnnotateConfig, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="has no image to annotate"):
        open_studio(replace(config, max_pixels=3071))
    assert capsys.readouterr().err == "left out: 4 images of more than --max-pixels 3,071\n"
    open_studio(replace(config, max_pixels=3072))
    assert capsys.readouterr().err == ""


def test_a_queue_of_two_annotators_and_a_reviewer(client: TestClient) -> None:
    def take(name: str) -> dict[str, Any]:
        return client.post("/api/queue/next", json={"annotator": name}).json()

    def tell(name: str, part: int, *events: dict[str, Any]) -> None:
        client.put(f"/api/sessions/{name}/parts/{part}", json=body(name, events=list(events)))

    ada, bob = take("Ada"), take("Bob")
    assert ada["image_id"] != bob["image_id"]
    refused = client.put(f"/api/queue/{ada['image_id']}/lease", json={"annotator": "Bob"})
    assert (refused.status_code, refused.json()["detail"]) == (409, "Ada is working on this image")
    tell("Ada", 1, event_row(1, "finish", ada["image_id"]))
    tell("Rita", 1, event_row(1, "send_back", ada["image_id"], details={"note": "the tail"}))
    again = take("Ada")
    assert (again["image_id"], again["status"], again["note"]) == (ada["image_id"], "sent_back", "the tail")
    states = {item["image_id"]: item["status"] for item in client.get("/api/queue").json()}
    assert sorted(states.values()) == ["open", "open", "open", "sent_back"]


def test_an_image_that_was_sent_back_stays_so_when_a_save_is_sent_again(config: AnnotateConfig, studio: Studio) -> None:
    """The answer to Ada's save was lost, so her browser sends it once more, after the reviewer has spoken."""
    image = first(studio)
    finish = body(events=[event_row(1, "finish", image)])
    back = body("Rita", events=[event_row(1, "send_back", image, happened_at=(MOMENT + timedelta(1)).isoformat())])
    with client_of(studio) as client:
        for session, save in (("a", finish), ("r", back), ("a", finish)):
            assert client.put(f"/api/sessions/{session}/parts/1", json=save).status_code == 200
        assert studio.item(image).status == "sent_back"
    again = open_studio(config)
    with client_of(again) as client:
        assert client.put("/api/sessions/a/parts/1", json=finish).status_code == 200
    assert again.item(image).status == "sent_back"


def test_of_two_tabs_that_changed_a_mask_the_later_one_counts_everywhere(
    config: AnnotateConfig, studio: Studio
) -> None:
    image = first(studio)
    later = (MOMENT + timedelta(seconds=9)).isoformat()
    with client_of(studio) as client:
        client.put("/api/sessions/z/parts/1", json=body(masks=[mask_row(image, blob(48, 64), mask_id="m")]))
        for session, seed, moment in (("b", 1, later), ("c", 2, MOMENT.isoformat())):
            changed = mask_row(image, blob(48, 64, seed), mask_id="m", revision=2, created_at=moment)
            other = mask_row(image, blob(48, 64, 9), mask_id=f"of-{session}")
            client.put(f"/api/sessions/{session}/parts/1", json=body(masks=[changed, other]))
    wanted = {"m": encode(blob(48, 64, 1)).decode()} | {f"of-{name}": encode(blob(48, 64, 9)).decode() for name in "bc"}
    for server in (studio, open_studio(config)):
        assert {mask.mask_id: mask.rle for mask in server.masks(image)} == wanted
        assert len(server.masks(image)) == server.journal.count(image) == 3
    assert {row["mask_id"]: row["rle"].decode() for row in rows(config, "FROM annotations")} == wanted


def test_a_new_server_knows_everything_the_old_one_did(config: AnnotateConfig, studio: Studio) -> None:
    image, other = list(studio.images)[:2]
    with client_of(studio) as client:
        masks = [mask_row(image, blob(48, 64), mask_id="kept"), mask_row(image, blob(48, 64, 3), mask_id="gone")]
        client.put("/api/sessions/s/parts/1", json=body(masks=masks, events=[event_row(1, "finish", image)]))
        gone = mask_row(image, blob(48, 64, 3), mask_id="gone", revision=2, deleted=True)
        client.put("/api/sessions/s/parts/2", json=body(masks=[gone], events=[event_row(2, "skip", other)]))
        before = client.get("/api/queue").json()
    with client_of(open_studio(config)) as client:
        assert client.get("/api/queue").json() == before
        assert [mask["mask_id"] for mask in client.get(f"/api/images/{image}/masks").json()] == ["kept"]
        assert client.post("/api/queue/next", json={"annotator": "Ada"}).json()["image_id"] not in (image, other)


def test_an_audit_keeps_pairs_of_automatic_and_corrected_masks(config: AnnotateConfig) -> None:
    add_run(config)
    audit = open_studio(replace(config, stage="audit", sample=2, run="run"))
    assert len(audit.images) == 2
    image = first(audit)
    with client_of(audit) as client:
        (proposed,) = client.get(f"/api/images/{image}/masks").json()
        assert (proposed["revision"], proposed["annotator"]) == (0, None)
        corrected = mask_row(image, blob(48, 64), source_mask_id=proposed["mask_id"])
        client.put("/api/sessions/s/parts/1", json=body(masks=[corrected]))
        (left,) = client.get(f"/api/images/{image}/masks").json()
        assert left["mask_id"] == "m1"
    with client_of(open_studio(replace(config, stage="audit", sample=2, run="run", round=2))) as client:
        assert [mask["revision"] for mask in client.get(f"/api/images/{image}/masks").json()] == [0]
    (pair,) = rows(
        config, "SELECT a.rle <> m.rle AS differ FROM annotations a JOIN masks m ON source_mask_id = m.mask_id"
    )
    assert pair == {"differ": True}
    with client_of(open_studio(replace(config, stage="semi-automatic"))) as client:
        assert [mask["revision"] for mask in client.get(f"/api/images/{image}/masks").json()] == [0]


def test_a_proposal_whose_mask_was_changed_in_another_stage_is_not_made_again(config: AnnotateConfig) -> None:
    """Both would be on the screen, and who deleted the proposal there would delete the changed mask."""
    add_run(config)
    semi = replace(config, stage="semi-automatic")
    with client_of(open_studio(semi)) as client:
        image = client.get("/api/queue").json()[0]["image_id"]
        (proposed,) = client.get(f"/api/images/{image}/masks").json()
        accepted = mask_row(image, blob(48, 64), source_mask_id=proposed["mask_id"])
        client.put("/api/sessions/s/parts/1", json=body(masks=[accepted]))
    with client_of(open_studio(config)) as client:
        client.put("/api/sessions/t/parts/1", json=body(masks=[accepted | {"revision": 2}]))
    with client_of(open_studio(semi)) as client:
        found = client.get(f"/api/images/{image}/masks").json()
    assert [(mask["mask_id"], mask["revision"]) for mask in found] == [("m1", 2)]


def test_of_several_runs_of_a_name_the_newest_is_meant(config: AnnotateConfig) -> None:
    """As everywhere else: what is corrected here shall be what `sam-engine audit DATASET@NAME` measures."""
    store = open_store(config.dataset)
    for run_id, day in (("a", 1), ("c", 3), ("b", 2)):
        record = replace(run_record(run_id), name="nightly", created_at=MOMENT.replace(day=day))
        store.put(run_key(run_id), to_json(record).encode())
    assert open_studio(replace(config, stage="audit", run="nightly")).task.run_id == "c"


def test_wrong_use_is_said_in_one_line(config: AnnotateConfig, tmp_path: Path) -> None:
    for change, complaint in (
        ({"stage": "audit"}, "no masks to start from"),
        ({"stage": "audit", "run": "none"}, "no run 'none'"),
        ({"images": "SELECT 1 AS one"}, "must return image_id"),
        ({"images": "SELECT nonsense"}, "nonsense"),
        ({"images": "SELECT image_id FROM images WHERE false"}, "--images returns 0 rows, and no image of"),
        ({"images": "SELECT 'x' AS image_id"}, "--images returns 1 rows, and no image of"),
        ({"dataset": str(tmp_path)}, "is not a data set"),
        ({"model": "vit_nn"}, "did you mean"),
    ):
        with pytest.raises(ValueError, match=complaint) as caught:
            open_studio(replace(config, **change))
        assert "\n" not in str(caught.value)
