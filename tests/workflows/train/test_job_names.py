"""What names a training run: configuration, data in their order, teacher and CLIP, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import fields, make_dataclass
from pathlib import Path

import torch

from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from sam_core.training.config import TrainConfig
from sam_core.training.presets import fine_tune
from tests.small_clip import write_small_clip
from workflows.commands import TrainCommand
from workflows.train.job import _configs, _proposed, _teacher
from workflows.train.sources import open_sources


def named(command: TrainCommand, config: TrainConfig) -> str:
    sources = open_sources(command.sources, need_masks=config.aim == "segment")
    return _proposed(command, config, sources, None, 1, teacher=_teacher(config)).run_id


def test_sources_in_another_order_are_another_run(labelled: Path, tmp_path: Path) -> None:
    both = sorted([str(labelled), str(shutil.copytree(labelled, tmp_path / "other"))])
    one, again, other = (named(TrainCommand(tuple(texts)), *fine_tune()) for texts in (both, both, both[::-1]))
    assert one == again != other


def test_a_choice_that_a_newer_version_adds_leaves_older_runs_theirs(labelled: Path) -> None:
    (config,), command = fine_tune(), TrainCommand((str(labelled),))
    newer = make_dataclass("Newer", [("added", float | None, None)], bases=(TrainConfig,), frozen=True)
    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    assert named(command, newer(**settings)) == named(command, config) != named(command, newer(**settings, added=0.5))


def test_another_teacher_at_the_same_place_is_another_run(labelled: Path, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    command = TrainCommand((str(labelled),), preset="distill", model="vit_test", image_size=64, teacher=str(path))
    ((config,), _), found = _configs(command), []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        save_model(Sam(vit_test()), path)
        found.append(named(command, config))
    assert found[0] == found[2] != found[1]


def test_the_same_clip_in_another_folder_is_the_same_run(labelled: Path, tmp_path: Path) -> None:
    folders = write_small_clip(tmp_path / "one"), tmp_path / "moved", write_small_clip(tmp_path / "other", seed=1)
    shutil.copytree(*folders[:2])
    found = []
    for folder in folders:
        command = TrainCommand((str(labelled),), preset="text_nano", clip=str(folder))
        (config,), _ = _configs(command)
        found.append(named(command, config))
    assert found[0] == found[1] != found[2]
