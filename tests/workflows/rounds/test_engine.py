"""The state machine: unattended to the end, killed anywhere with the same end, bad data refused, people waited for."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from sam_core.model.checkpoint import CheckpointError, save_model
from sam_core.model.sam import Sam
from sam_core.presets import stage_three, vit_n, vit_test
from sam_core.recipes import Recipe
from sam_core.training.presets import train_preset
from schemas.catalog import QueryError, connect
from schemas.layout import annotations_key, events_key, snapshot_key
from schemas.parquet import from_parquet_bytes, to_parquet_bytes
from schemas.tables import EVENTS, SNAPSHOT
from tests.schemas.rows import NAIVE_START, annotation
from tests.workflows.rounds.conftest import Document, Opened, finish
from tests.workflows.rounds.state import state_of
from tests.workflows.train.here import train_here
from workflows.commands import TrainCommand
from workflows.models import find_model
from workflows.rounds import steps
from workflows.rounds.config import EngineConfig, TrainingSettings, parse_engine
from workflows.rounds.detector_job import DetectorJob, train_detector
from workflows.rounds.engine import Engine, Round, Step, Steps, WaitingError, run_rounds
from workflows.rounds.outcomes import Annotated, Gated, Staged, from_details
from workflows.rounds.steps import STEPS
from workflows.rounds.training import require_trainings, training_command
from workflows.storage import LocalStore, Store
from workflows.train.job import adjusted, require_trainable
from workflows.train.loop import MachineError, NoRoomError
from workflows.train.register import Finished
from workflows.train.samples import Sampler
from workflows.train.sources import open_sources

KILLS = 10


class KilledError(BaseException):
    """The process was killed."""


def test_unattended_to_the_end(config: EngineConfig, opened: Opened) -> None:
    finish(opened(config))
    connection = connect(config.dataset)
    first, second = connection.sql("FROM round_summary").to_arrow_table().to_pylist()
    assert [first["stage"], second["stage"]] == ["assisted_manual", "semi_automatic"]
    assert first["images"] == second["images"] == 2
    assert first["masks_per_image"] >= 2
    assert first["clicks_per_mask"] == 3  # a random model never reaches IoU 0.9
    assert [first["promoted"], second["promoted"]] == [True, True]
    assert second["model_before"] == first["model_after"]
    assert first["cost"] == pytest.approx(10 * first["human_hours"] + first["machine_hours"])
    assert {row[0] for row in connection.execute("SELECT DISTINCT round FROM annotation_work").fetchall()} == {1, 2}

    data = connection.sql("FROM round_data").to_arrow_table().to_pylist()
    assert data[1]["masks"] == connection.execute("SELECT count(*) FROM annotations").fetchall()[0][0]
    assert data[0]["masks"] < data[1]["masks"]
    known = connection.sql(
        "SELECT model_id, round, parent FROM models WHERE round IS NOT NULL ORDER BY round"
    ).fetchall()
    assert known == [(data[0]["model_id"], 1, first["model_before"]), (data[1]["model_id"], 2, data[0]["model_id"])]
    queues = connection.sql("SELECT round, list(image_id) FROM round_queue GROUP BY 1 ORDER BY 1").fetchall()
    assert not set(queues[0][1]) & set(queues[1][1])
    assert connection.sql("SELECT name FROM runs ORDER BY 1").fetchall() == [
        *(("held-out-round-1",), ("held-out-round-2",), ("prefill-round-2",))
    ]
    kernels, made_by = connection.sql("SELECT kernels, recipe FROM runs WHERE name = 'held-out-round-1'").fetchall()[0]
    grid = config.evaluation.points_per_side
    resolved = json.loads(Recipe(points_per_side=grid).to_json())
    assert (kernels, json.loads(made_by)) == ("fast", {"recipe": "reference"} | resolved)
    assert connection.execute("SELECT count(*) FROM problems").fetchall() == [(0,)]
    reviewed = connection.execute("SELECT count(*) FROM events WHERE action IN ('keep', 'delete_mask')").fetchall()
    assert reviewed == connection.execute("SELECT count(*) FROM masks WHERE stage = 'semi_automatic'").fetchall()


@pytest.mark.slow
def test_killed_anywhere_it_ends_in_the_same_state(
    config: EngineConfig, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(config.dataset)
    finish(opened(config))
    calm = state_of(root)
    shutil.rmtree(root)
    kills = 0
    with monkeypatch.context() as patch:
        countdown = _kill_after(patch)
        while kills < KILLS:
            countdown[0] = int(np.random.default_rng(kills).integers(1, 14))
            try:
                finish(opened(config))
                shutil.rmtree(root)  # done before its moment: begin anew
            except KilledError:
                kills += 1
    finish(opened(config))
    disturbed = state_of(root)
    assert kills == KILLS
    assert disturbed["rounds"] == calm["rounds"]
    assert disturbed["files"] == calm["files"]
    for table in ("a", "e", "masks"):
        assert disturbed[table].equals(calm[table]), table


def _kill_after(patch: pytest.MonkeyPatch) -> list[int]:
    """Die at the n-th write from now on, before it or after it."""
    countdown = [0]
    for name in ("put", "put_if_absent"):
        plain = getattr(LocalStore, name)

        def write(self: LocalStore, key: str, data: bytes, *, plain: Any = plain) -> Any:
            countdown[0] -= 1
            if countdown[0] == 0 and len(key) % 2:
                raise KilledError
            answer = plain(self, key, data)
            if countdown[0] == 0:
                raise KilledError
            return answer

        patch.setattr(LocalStore, name, write)
    return countdown


def test_of_two_drivers_one_goes_on(config: EngineConfig, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(now: Round) -> Staged:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 4242)
            run_rounds(opened(config), STEPS, most=1, tell=lambda _: None)
        return steps.stage(now)

    with pytest.raises(ValueError, match=r"round 1: process 4242 on .* has done stage meanwhile; one driver is enough"):
        run_rounds(opened(config), _with_first(Step(Staged, overtaken)), tell=lambda _: None)
    held = opened(config).read(1)
    assert held is not None
    assert held.state == "stage"


def test_an_outcome_that_was_not_noted_is_not_worked_for_again(
    config: EngineConfig, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "write", killed)
        with pytest.raises(KilledError):
            run_rounds(opened(config), STEPS, tell=lambda _: None)
    run_rounds(opened(config), _with_first(Step(Staged, pytest.fail)), most=1, tell=lambda _: None)
    held = opened(config).read(1)
    assert held is not None
    assert held.state == "stage"


def _with_first(step: Step) -> Steps:
    """All steps, the first one of the first round replaced."""
    return {**STEPS, "assisted_manual": (step, *STEPS["assisted_manual"][1:])}


def test_damaged_data_is_refused_and_the_engine_goes_on(config: EngineConfig, opened: Opened) -> None:
    engine = opened(config)
    run_rounds(engine, STEPS, most=3, tell=lambda _: None)  # stage, annotate, snapshot
    _displace(engine.store)
    finish(engine)
    first, second = connect(config.dataset).sql("FROM round_summary").to_arrow_table().to_pylist()
    assert (first["promoted"], first["model_after"]) == (False, None)
    assert "snapshot.parquet is damaged" in first["reason"]
    assert second["model_before"] == first["model_before"]
    assert second["promoted"] is True


def _displace(store: Store) -> None:
    """Give every mask the pixels of another: a file that can be read and is wrong."""
    rows = from_parquet_bytes(store.get(snapshot_key(1))).to_pylist()
    counts = [row["rle"] for row in rows]
    moved = [row | {"rle": other} for row, other in zip(rows, counts[1:] + counts[:1], strict=True)]
    store.put(snapshot_key(1), to_parquet_bytes(pa.Table.from_pylist(moved, schema=SNAPSHOT)))


def test_masks_of_a_round_that_made_the_model_worse_are_not_trained_on_again(
    config: EngineConfig, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "gate", lambda *_: Gated(promoted=False, reason="worse by far", trusted=False))
    finish(opened(config))
    connection = connect(config.dataset)
    assert connection.execute("SELECT details ->> '$.snapshot.left_out' FROM rounds").fetchall() == [("[]",), ("[1]",)]
    rows = from_parquet_bytes(opened(config).store.get(snapshot_key(2)))
    assert set(rows["round"].to_pylist()) == {2}


def test_masks_on_held_out_images_are_not_trained_on(
    config: EngineConfig, opened: Opened, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data set knows held-out images whose masks it shows, and the app offers them where nobody names others."""
    run_rounds(opened(config), STEPS, most=7, tell=lambda _: None)
    ((image,),) = (
        connect(config.dataset).execute("SELECT image_id FROM images WHERE contains(uris[1], '/held_out/')").fetchall()
    )
    bitmap = np.ones((48, 64), np.bool_)
    engine, jobs = opened(config), []

    def noted(job: DetectorJob) -> None:
        jobs.append(job)
        train_detector(job)

    engine.store.put(annotations_key("s", 1), to_parquet_bytes(annotation("m", 1, bitmap, image_id=image)))
    finish(replace(engine, means=replace(engine.means, train_detector=noted)))
    rows = from_parquet_bytes(engine.store.get(snapshot_key(2)))
    assert image not in rows["image_id"].to_pylist()
    assert [job.held_out for job in jobs] == [(image,)]
    assert f"left out: masks of {image}: it is held out" in capsys.readouterr().err


def test_recall_on_held_out_images_without_an_object_is_unknown(
    config: EngineConfig, opened: Opened, tmp_path: Path
) -> None:
    """Not a number that no JSON holds, with which the round could never go on."""
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(tmp_path / "held_out" / "labels" / "10.png")
    finish(opened(config))
    rounds = connect(config.dataset).sql("FROM round_summary").to_arrow_table().to_pylist()
    assert [row["average_recall"] for row in rounds] == [None, None]


def test_other_sources_are_trained_on_beside_the_masks(document: Document, opened: Opened) -> None:
    document["training"]["also"] = ["scenes=0.5"]
    asked: list[tuple[str, ...]] = []

    def noted(command: TrainCommand) -> Finished:
        asked.append(command.sources)
        return train_here(command)

    engine = opened(parse_engine(document, where="e"))
    engine = replace(engine, means=replace(engine.means, train=noted))
    assert run_rounds(engine, STEPS, most=4, tell=lambda _: None) is False
    assert asked == [(f"{document['dataset']}@round-1", "scenes=0.5")]
    assert engine.read(1).state == "train"


def test_a_source_that_is_not_there_is_a_mistake_of_the_file(document: Document, opened: Opened) -> None:
    document["training"]["also"] = ["scene"]
    with pytest.raises((ValueError, OSError), match="scene"):
        opened(parse_engine(document, where="e"))
    assert not Path(document["dataset"]).exists()


def test_people_are_waited_for(config: EngineConfig, opened: Opened) -> None:
    waiting = opened(config, simulate=False)
    for _ in range(2):
        with pytest.raises(WaitingError, match="waits for 2 of 2 images") as told:
            finish(waiting)
    command = str(told.value)
    assert "sam-engine annotate" in command
    assert "--round 1" in command
    assert "round_queue WHERE round = 1" in command
    assert run_rounds(opened(config), STEPS, most=6, tell=lambda _: None) is False  # the same work, simulated
    with pytest.raises(WaitingError, match="round 2 waits") as told:
        finish(waiting)
    assert "--run prefill-round-2-" in str(told.value)


def test_refusals(document: Document, opened: Opened) -> None:
    del document["simulation"]
    with pytest.raises(ValueError, match="--simulate needs a section `simulation`"):
        opened(parse_engine(document, where="e"))
    document["stages"] = [{"stage": "assisted_manual", "images": 6, "rounds": 2}]
    document["simulation"] = {"truth": document["held_out"]}
    with pytest.raises(ValueError, match="has no true masks of image"):
        finish(opened(parse_engine(document, where="e")))


@pytest.mark.parametrize(
    ("training", "complaint"),
    [
        ({"images": 3, "workers": 2}, "3 images per step do not divide among 2 workers"),
        ({"preset": "text_nano"}, "needs --clip FOLDER"),
        ({"preset": "stage3_generator", "model": "vit_nn"}, "did you mean"),
        ({"preset": "stage3_generator", "model": "vit_h"}, "vit_h"),
    ],
)
def test_a_training_that_cannot_begin_is_a_mistake_of_the_file(
    document: Document, opened: Opened, training: Document, complaint: str
) -> None:
    document["stages"].append({"stage": "automatic", "training": training})
    with pytest.raises(ValueError, match=complaint) as told:
        opened(parse_engine(document, where="e"))
    assert "training of round 3: " in str(told.value)
    assert not Path(document["dataset"]).exists()


def test_a_stage_may_begin_with_another_model(document: Document, opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_model(Sam(vit_n()), path)
    config = parse_engine(document | {"training": document["training"] | {"model": str(path)}}, where="e")
    engine = opened(parse_engine(document, where="e"))
    commands = [training_command(config, each, engine.first_model, 4) for each in (config.training, TrainingSettings())]
    assert [command.start for command in commands] == [str(path), engine.first_model.path]
    assert [command.model for command in commands] == ["vit_n", "vit_test"]
    require_trainings(config, engine.first_model)


@pytest.mark.parametrize(
    "failure",
    [
        NoRoomError("--workers 8 need 4 CPU cores, the cluster has 2"),
        MachineError("step 3: cannot read s3://bucket/1.png: EndpointConnectionError; there was no checkpoint yet"),
        CheckpointError("there is no checkpoint /data/models/m/model.safetensors"),
        QueryError("masks/run=r/shard-00000000.parquet: AWS Error SLOW_DOWN during GetObject operation"),
    ],
)
def test_machines_stores_and_lost_weights_are_no_fault_of_the_data(
    config: EngineConfig, opened: Opened, failure: ValueError
) -> None:
    engine = opened(config)

    def fails(_: TrainCommand) -> Finished:
        raise failure

    with pytest.raises(type(failure)):
        finish(replace(engine, means=replace(engine.means, train=fails)))
    assert engine.read(1).state == "snapshot"
    finish(engine)
    assert engine.read(1).promoted


def test_a_model_of_the_automatic_stage_is_trained_on(config: EngineConfig, tmp_path: Path) -> None:
    path = tmp_path / "stage3.safetensors"
    save_model(Sam(stage_three(vit_test())).eval(), path)
    settings = replace(config.training, preset="stage3_fine_tune")
    command = training_command(config, settings, find_model(str(path)), 2)
    require_trainable(command)
    assert (command.model, command.start) == ("vit_test", str(path))


def test_every_round_trains_on_scenes_of_its_own(document: Document) -> None:
    document["training"] |= {"preset": "fine_tune", "also": ["scenes"]}
    config = parse_engine(document, where="e")
    model = find_model(config.model)
    settings = (config.training, replace(config.training, seed=7))
    seeds = [[training_command(config, each, model, number).seed for number in (1, 2, 3)] for each in settings]
    assert seeds == [[0, 100, 200], [7, 107, 207]]

    scenes = open_sources(("scenes",), need_masks=True)
    commands = [training_command(config, config.training, model, number) for number in (1, 2)]
    (preset,) = train_preset("fine_tune")
    first, second = (Sampler(scenes, adjusted(preset, command)).sample(0) for command in commands)
    assert not torch.equal(first.images, second.images)


def test_who_skips_an_image_is_not_waited_for(config: EngineConfig, opened: Opened) -> None:
    """As the app does by itself where a picture cannot be opened."""
    waiting = opened(config, simulate=False)
    with pytest.raises(WaitingError, match="waits for 2 of 2 images"):
        finish(waiting)
    first, second = from_details(Staged, waiting.read(1).details).queue
    for place, (image, action) in enumerate(((first, "skip"), (second, "finish")), start=1):
        row = {
            "session": "s",
            "sequence": place,
            "annotator": "ada",
            "image_id": image,
            "action": action,
            "active": 0.0,
        }
        row |= {"round": 1, "stage": "assisted_manual", "happened_at": NAIVE_START}
        table = pa.Table.from_pylist([row], schema=EVENTS)
        waiting.store.put(events_key("s", place), to_parquet_bytes(table))
        left = 2 - place
        if left:
            with pytest.raises(WaitingError, match=f"waits for {left} of 2 images"):
                finish(waiting)
    assert run_rounds(waiting, STEPS, most=1, tell=lambda _: None) is False
    assert from_details(Annotated, waiting.read(1).details).images == 1
