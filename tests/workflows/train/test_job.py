"""`sam-engine train` on a real Ray cluster: resumed after a kill, stopped in one line, registered with a card."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
import torch

from sam_core.model.checkpoint import load_model, save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from sam_core.training.nano_presets import nano
from sam_core.training.presets import fine_tune
from schemas.catalog import connect as connect_local
from tests.workflows.conftest import Engine, save_labelled
from tests.workflows.train.conftest import picture
from tests.workflows.train.here import train_here
from workflows.cli import parse
from workflows.commands import TrainCommand
from workflows.models import Model
from workflows.runs import open_dataset
from workflows.storage import LocalStore, Store, StoreError, open_store
from workflows.train import checkpoints, worker
from workflows.train.job import _configs, _place, adjusted, train
from workflows.train.loop import MachineError
from workflows.train.metrics import read_metrics
from workflows.train.team import Team
from workflows.train.worker import TrainJob, lasting, precision_advice

SMALL = ("--model", "vit_test", "--image-size", "64", "--images", "2", "--save-every", "2", "--threads", "1")


def finished(out: Path) -> dict[str, object]:
    (path,) = out.glob("training/run=*/finished.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.timeout(600)
def test_a_killed_worker_resumes_and_ends_with_the_same_weights(
    tmp_path: Path, labelled: Path, tiny_checkpoint: Path, engine: Engine
) -> None:
    settings = ("--start", tiny_checkpoint, "--iterations", "12", "--validate", labelled)
    command = ("train", labelled, *SMALL, *settings, "--out", tmp_path / "out")
    calm = train_here(
        TrainCommand(
            (str(labelled),),
            out=str(tmp_path / "calm"),
            model="vit_test",
            image_size=64,
            images=2,
            start=str(tiny_checkpoint),
            iterations=12,
        )
    )
    killed: list[int] = []
    killer = threading.Thread(target=_kill_a_worker_after_a_checkpoint, args=(tmp_path / "out", killed))
    killer.start()
    disturbed = engine(*command)
    killer.join()
    assert disturbed.status == 0, disturbed.err
    assert killed, "nobody was killed"
    assert "step 12 of 12" in disturbed.err
    found = finished(tmp_path / "out")
    assert found["sha256"] == calm.sha256
    again = engine(*command)
    assert (again.status, again.err) == (0, "")  # finished runs are only shown

    weights = tmp_path / "out" / "models" / str(found["model_id"]) / "model.safetensors"
    assert load_model(weights).name == "vit_test"
    card = weights.with_name("card.md").read_text()
    assert "validation 1 click miou" in card
    assert str(labelled) in card
    assert connect_local(tmp_path / "out").execute("SELECT model_id, parent FROM models").fetchall()[0][0] in card
    rows = read_metrics(LocalStore(tmp_path / "out"), str(found["run_id"]))
    assert [row.step for row in rows] == list(range(1, 13))
    assert list((tmp_path / "out").glob("training/*/tensorboard/events.out.tfevents.*"))


def _kill_a_worker_after_a_checkpoint(out: Path, killed: list[int]) -> None:
    while not killed:
        if list(out.glob("training/*/checkpoint-*/whole.json")):
            for process in psutil.Process().children(recursive=True):  # not those of tests that run beside this one
                if "RayTrainWorker" in _command_line(process):
                    process.kill()
                    killed.append(process.pid)
        threading.Event().wait(0.05)


def _command_line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


@pytest.mark.usefixtures("cluster", "train_without_ray_train")
@pytest.mark.timeout(300)
def test_distillation_into_an_object_store(
    tmp_path: Path, labelled: Path, bucket: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    save_model(Sam(vit_test()), tmp_path / "teacher.safetensors")
    monkeypatch.chdir(tmp_path)
    ran = engine(
        *("train", labelled / "images", "--preset", "distill", *SMALL, "--teacher", "teacher.safetensors"),
        *("--iterations", "30", "--learning-rate", "0.003", "--out", f"s3://{bucket}/set", "--seed", "5"),
        *("--save-every", "15"),
    )
    assert ran.status == 0, ran.err
    assert "embedding error" in ran.err
    store = open_store(f"s3://{bucket}/set")
    (run_id,) = {entry.key.split("/")[1].removeprefix("run=") for entry in store.list("training")}
    errors = [row.values["embedding_error"] for row in read_metrics(store, run_id)]
    assert len(errors) == 30
    assert sum(errors[-5:]) < 0.8 * sum(errors[:5])
    assert any(entry.key.endswith("model.safetensors") for entry in store.list("models"))


@pytest.mark.usefixtures("cluster", "train_without_ray_train")
@pytest.mark.timeout(300)
def test_a_loss_that_is_not_finite_ends_in_one_line(tmp_path: Path, labelled: Path, engine: Engine) -> None:
    sam = Sam(vit_test())
    sam.mask_decoder.iou_token.weight.data[:] = 1e38  # finite, but not its square
    save_model(sam, tmp_path / "broken.safetensors")
    ran = engine("train", labelled, *SMALL, "--start", tmp_path / "broken.safetensors", "--out", tmp_path / "out")
    assert ran.status == 2
    last = ran.err.strip().splitlines()[-1]
    assert last.startswith("sam-engine: step 0: the loss is not finite, for images 0 to 1 of the run")
    assert ".png" in last
    assert last.endswith("there was no checkpoint yet")


@pytest.mark.slow
@pytest.mark.usefixtures("cluster", "train_without_ray_train")
@pytest.mark.timeout(300)
def test_bfloat16_on_a_cpu_without_instructions_is_told(
    tmp_path: Path, labelled: Path, tiny_checkpoint: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "get_host_cpu_features", dict)
    monkeypatch.setattr("workflows.train.worker.platform.machine", lambda: "x86_64")
    settings = ("--start", tiny_checkpoint, "--iterations", "1", "--bfloat16", "True")
    ran = engine("train", labelled, *SMALL, *settings, "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    told = [line for line in ran.err.splitlines() if "ten times as long as in float32: --bfloat16 False" in line]
    assert len(told) == 1


def test_only_a_cpu_in_bfloat16_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors of other makes do not say."""
    config = fine_tune()[0]
    monkeypatch.setattr(worker, "get_host_cpu_features", dict)
    monkeypatch.setattr("workflows.train.worker.platform.machine", lambda: "x86_64")
    assert precision_advice(replace(config, bfloat16=True), "cpu")
    assert not precision_advice(replace(config, bfloat16=True), "cuda")
    assert not precision_advice(replace(config, bfloat16=False), "cpu")
    monkeypatch.setattr(worker, "get_host_cpu_features", lambda: {"amx-bf16": True})
    assert not precision_advice(replace(config, bfloat16=True), "cpu")
    monkeypatch.setattr(worker, "get_host_cpu_features", dict)
    monkeypatch.setattr("workflows.train.worker.platform.machine", lambda: "aarch64")
    assert not precision_advice(replace(config, bfloat16=True), "cpu")


@pytest.mark.usefixtures("cluster", "train_without_ray_train")
@pytest.mark.timeout(300)
def test_a_full_disk_ends_in_one_line_and_the_same_command_goes_on(
    tmp_path: Path, labelled: Path, tiny_checkpoint: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", labelled, *SMALL, "--start", tiny_checkpoint, "--iterations", "6", "--out", tmp_path / "out")
    save = checkpoints.save

    def full_from_the_second_on(store: Store, run_id: str, tensors: dict[str, Any]) -> None:
        if tensors["step"] > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{store.root}/part")
        save(store, run_id, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", full_from_the_second_on)
        ran = engine(*command)
        with pytest.raises(MachineError, match="No space left on device; the checkpoint of step 2 is kept"):
            train(parse([str(word) for word in command]))
    wanted = f"sam-engine: {tmp_path}/out/part: No space left on device; the checkpoint of step 2 is kept"
    assert (ran.status, ran.err.strip().splitlines()[-1]) == (2, wanted)
    assert engine(*command).status == 0


@pytest.mark.parametrize(
    ("error", "lasts"),
    [
        (PermissionError("cannot write s3://bucket/part: AccessDenied"), True),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/part"), True),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/data/part"), True),
        (StoreError("cannot write s3://bucket/part: SlowDown (6 attempts)"), False),
        (OSError(errno.EIO, os.strerror(errno.EIO), "/data/part"), False),
    ],
)
def test_no_worker_begins_again_where_a_store_refuses(error: OSError, lasts: bool) -> None:
    assert bool(lasting(error, cast(TrainJob, None), Team())) == lasts


@pytest.mark.usefixtures("cluster", "train_without_ray_train")
@pytest.mark.timeout(300)
def test_a_start_that_was_replaced_is_no_fault_of_the_data(
    tmp_path: Path, labelled: Path, replaced_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a round is tried again, and not ended without a model."""
    monkeypatch.setattr("workflows.train.job.find_model", lambda _: replaced_model)
    command = ("train", labelled, *SMALL, "--start", replaced_model.path, "--out", tmp_path / "out")
    with pytest.raises(MachineError, match="is not the checkpoint that the command began with; there was no check"):
        train(parse([str(word) for word in command]))


@pytest.mark.usefixtures("cluster", "train_without_ray_train")
@pytest.mark.timeout(300)
def test_a_damaged_picture_is_told_and_kept_on_record(
    tmp_path: Path, labelled: Path, tiny_checkpoint: Path, engine: Engine
) -> None:
    spoilt = labelled / "images" / "3.png"
    spoilt.write_bytes(spoilt.read_bytes()[:60])
    settings = ("--start", tiny_checkpoint, "--iterations", "8", "--validate", labelled)
    ran = engine("train", labelled, *SMALL, *settings, "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    told = [line for line in ran.err.splitlines() if line.startswith(f"left out: {spoilt}: PNG cannot be decoded")]
    assert len(told) == 2  # of training and of validation
    assert "1 picture left out" in ran.err
    assert "pictures_left_out 1" in ran.out
    named, number = (
        connect_local(tmp_path / "out")
        .execute("SELECT training ->> '$.left_out', metrics ->> '$.pictures_left_out' FROM models")
        .fetchall()[0]
    )
    assert json.loads(named).keys() == {str(spoilt)}
    assert float(number) == 1
    rows = read_metrics(LocalStore(tmp_path / "out"), str(finished(tmp_path / "out")["run_id"]))
    assert {place for row in rows for place in row.left_out} == {str(spoilt)}
    (card,) = (tmp_path / "out").glob("models/*/card.md")
    assert "| pictures left out | 1 |" in card.read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--preset", "paper_vit_b", "--start", "MODEL"), "holds vit_test, the preset trains vit_b"),
        ((*SMALL, "--accumulate", "3"), "2 images per step do not divide among 1 workers times 3 parts"),
        ((*SMALL, "--validate", "nowhere"), "nowhere: no such data set, folder or file"),
        ((*SMALL, "--validate", "scenes"), "--validate scenes: procedural scenes have no end; validate on images"),
        (("--preset", "finetune"), "did you mean 'fine_tune'"),
        (("--preset", "distill", *SMALL, "--teacher", "nobody"), "no model is called 'nobody'"),
    ],
)
def test_refusals_before_any_work(
    tmp_path: Path, labelled: Path, tiny_checkpoint: Path, engine: Engine, arguments: tuple[str, ...], complaint: str
) -> None:
    given = [str(tiny_checkpoint) if word == "MODEL" else word for word in arguments]
    ran = engine("train", labelled, *given, "--out", tmp_path / "out")
    assert ran.status == 2
    assert complaint in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_validation_without_a_mask_is_refused_before_training(
    tmp_path: Path, labelled: Path, tiny_checkpoint: Path, engine: Engine
) -> None:
    save_labelled(tmp_path / "bare", {0: (picture(0)[0], np.zeros((48, 64), np.uint16))})
    given = ("--start", tiny_checkpoint, "--validate", tmp_path / "bare", "--out", tmp_path / "out")
    ran = engine("train", labelled, *SMALL, *given)
    assert ran.status == 2
    assert f"--validate {tmp_path}/bare: no image that can be read has a mask; name another place" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["workers", "accumulate", "save_every", "iterations", "images"])
def test_counts_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is 0; it must be positive"):
        TrainCommand(sources=("scenes",), **{name: 0})


def test_a_seed_is_not_negative() -> None:
    with pytest.raises(ValueError, match="--seed is -1; it must be between 0 and"):
        TrainCommand(sources=("scenes",), seed=-1)


def test_one_source_is_no_row_of_letters() -> None:
    with pytest.raises(ValueError, match=r"sources is 'my_labels'; it must be a tuple of places: \('my_labels',\)"):
        TrainCommand(sources="my_labels")  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", ["./vit_n.safetensors", "models/new", "s3://bucket/sam.pth"])
def test_weights_are_no_name_of_a_model(weights: str) -> None:
    with pytest.raises(
        ValueError, match=f"--model {weights}: here a model's name, such as vit_n; weights go to --start"
    ):
        TrainCommand(sources=("scenes",), model=weights)


@pytest.mark.parametrize("name", ["window_share", "centre_share", "chosen"])
def test_shares_lie_between_0_and_1(name: str) -> None:
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} is 1.5; it must lie in 0..1"):
        TrainCommand(sources=("scenes",), **{name: 1.5})


def test_values_of_the_command_take_the_preset_s_place() -> None:
    config = nano()[0]
    command = TrainCommand(("scenes",), iterations=config.learning_rate.iterations // 2, seed=7, bfloat16=False)
    found = adjusted(config, command)
    (windows,) = fine_tune()
    assert adjusted(windows, TrainCommand(("scenes",), window_share=0.0)).window_share == 0 < windows.window_share
    assert adjusted(windows, TrainCommand(("scenes",), centre_share=0.3)).centre_share == 0.3 != windows.centre_share
    assert adjusted(windows, TrainCommand(("scenes",), chosen=1.0)).losses == replace(windows.losses, chosen=1.0)
    assert (config.bfloat16, found.bfloat16, found.seed) == (True, False, 7)
    assert found.learning_rate.decay_at == (config.learning_rate.decay_at[0] // 2,)
    assert found.image_size == config.image_size
    given = {"images": 8, "masks_per_image": 5, "image_size": 128, "model": "vit_test"}
    other = adjusted(config, TrainCommand(("scenes",), learning_rate=0.5, **given))
    assert {name: getattr(other, name) for name in given} == given
    assert (other.learning_rate.base, found.learning_rate.base) == (0.5, config.learning_rate.base)


def test_stages_of_a_preset_keep_seeds_of_their_own() -> None:
    """With one seed for all, each would see the scenes of the one before again."""
    stages, _ = _configs(TrainCommand(("scenes",), preset="nano_gpu", seed=3))
    assert [stage.seed for stage in stages] == [3, 4, 5]
    unsaid, _ = _configs(TrainCommand(("scenes",), preset="nano_gpu"))
    assert [stage.seed for stage in unsaid] == [10, 11, 12]


def test_somewhere_to_write_is_needed(labelled: Path, engine: Engine) -> None:
    ran = engine("train", labelled, *SMALL)
    assert (ran.status, "say with --out where" in ran.err) == (2, True)


@pytest.mark.parametrize("ending", ["", "=2", "@masks", "@masks=0.5"])
def test_the_first_data_set_gets_the_model_whatever_its_folders_are_called(tmp_path: Path, ending: str) -> None:
    root = tmp_path / "batch=7" / "cells"
    open_dataset(LocalStore(root))
    assert _place(TrainCommand(("scenes", f"{root}{ending}"))) == str(root)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(
    tmp_path: Path, labelled: Path, tiny_checkpoint: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    start = ("--start", tiny_checkpoint, "--out", tmp_path / "out", "--device", "cuda")
    ran = engine("train", labelled, *SMALL, *start)
    assert (ran.status, ran.err) == (
        2,
        "sam-engine: --device cuda: torch finds no GPU on this machine; leave --device out\n",
    )
