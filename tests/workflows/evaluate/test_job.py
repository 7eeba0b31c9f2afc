"""Evaluations with a tiny random model and without Ray: kills, faults, and what is measured again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from sam_core.model.checkpoint import save_model
from sam_core.model.sam import Sam
from sam_core.presets import vit_test
from schemas.evaluation import figures_key, images_key, rows_key
from tests.workflows.evaluate.measuring import run, value
from tests.workflows.report.data_sets import DataSet, done, photos, run_record
from workflows.evaluate import job
from workflows.evaluate.commands import (
    EdgesConfig,
    EvaluateCommand,
    Measurable,
    SinglePointConfig,
)
from workflows.evaluate.job import _settle, evaluate, here, task_of
from workflows.evaluate.truth import TrueMasks, read_masks
from workflows.evaluate.worker import EvaluationJob, EvaluationWorker, Helpers
from workflows.storage import LocalStore
from workflows.uris import UriReader


def test_a_killed_evaluation_gives_the_same_table(labelled: Path, common: dict[str, Any], tmp_path: Path) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), first_click="random", **common)
    calm = run(config)

    def killed(job: EvaluationJob, shards: list[int], _: Measurable) -> Iterator[dict[str, Any]]:
        """Dies in the third shard, after its rows are written and before its commit."""
        worker = EvaluationWorker(job)
        yield from map(worker.work, shards[:2])
        worker.work(shards[2])
        (Path(job.root) / images_key(job.evaluation, shards[2])).unlink()
        (Path(job.root) / rows_key(job.evaluation, shards[2])).write_bytes(b"half")
        raise KeyboardInterrupt

    worked: list[int] = []

    def counted(job: EvaluationJob, shards: list[int], config: Measurable) -> Iterator[dict[str, Any]]:
        worked.extend(shards)
        return here(job, shards, config)

    other = replace(config, out=str(tmp_path / "other"))
    with pytest.raises(KeyboardInterrupt):
        evaluate(other, pool=killed)
    resumed = evaluate(replace(other, shard_size=3), pool=counted)  # the plan stays as it was settled
    assert worked == [2, 3, 4]
    assert resumed == calm
    key = figures_key(calm.evaluation)
    assert (Path(config.out) / key).read_bytes() == (Path(other.out) / key).read_bytes()
    assert evaluate(other, pool=counted) == calm
    assert worked == [2, 3, 4]


def test_another_seed_or_model_or_truth_is_another_evaluation(
    labelled: Path, common: dict[str, Any], tmp_path: Path
) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), limit=2, masks_per_image=2, **common)
    torch.manual_seed(8)
    save_model(Sam(vit_test()), tmp_path / "other.safetensors")
    others = replace(config, seed=1), replace(config, model=str(tmp_path / "other.safetensors"))
    done = [run(each) for each in (config, *others)]
    for label in (labelled / "labels").iterdir():
        label.write_bytes(label.read_bytes() + b" ")  # as a corrected file has another size
    done.append(run(config))
    assert len({one.evaluation for one in done}) == 4
    assert [value(one, "masks") for one in done] == [4, 4, 4, 4]


def test_another_device_is_another_evaluation(labelled: Path, common: dict[str, Any], tmp_path: Path) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), **common)
    store, plan = LocalStore(tmp_path / "out"), task_of(config).plan()
    names = [_settle(config, store, plan, None, Helpers(), device) for device in ("cpu", "cuda", "cpu")]
    assert names[0] == names[2] != names[1]


def test_an_image_at_fault_is_left_out_and_named(labelled: Path, common: dict[str, Any]) -> None:
    (labelled / "images" / "1.png").write_bytes(b"no picture")
    done = run(SinglePointConfig(data=(str(labelled),), clicks=(1,), **common))
    assert value(done, "images") == 4
    (error,) = done.errors
    assert error.startswith("labelled/1: not an image")


def test_truth_at_fault_costs_its_image_alone(labelled: Path, common: dict[str, Any]) -> None:
    """Counting the masks of a set ended at the first label that cannot be read, and nothing was measured."""
    (labelled / "labels" / "1.png").write_bytes(b"no label")
    done = run(SinglePointConfig(data=(str(labelled),), clicks=(1,), **common))
    assert value(done, "images") == 4
    (error,) = done.errors
    assert "labels/1.png: not a label image" in error


def _none_drew(path: Path) -> bytes:
    scipy.io.savemat(path, {"groundTruth": np.empty((1, 0), object)})
    return path.read_bytes()


@pytest.mark.parametrize("damage", [lambda _: b"", lambda path: path.read_bytes()[:300], _none_drew])
def test_a_ground_truth_that_is_cut_off_costs_its_image_alone(
    bsds: Path, common: dict[str, Any], damage: Callable[[Path], bytes]
) -> None:
    """SciPy's error for a file that is cut off is neither OSError nor ValueError, and ended all in a traceback."""
    path = bsds / "ground_truth" / "val" / "0.mat"
    path.write_bytes(damage(path))
    for config in (
        EdgesConfig(data=(str(bsds),), split="val", humans=True, **common),
        SinglePointConfig(data=(str(bsds),), clicks=(1,), **common),
    ):
        (error,) = run(config).errors
        assert error.startswith("bsds/0: not a ground truth of BSDS500 (")


def test_a_table_of_people_names_no_model(
    bsds: Path, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = EdgesConfig(data=(str(bsds),), split="val", humans=True, **common)
    monkeypatch.setattr(job, "evaluate", run)
    assert job.evaluate_command(EvaluateCommand(task=config)) == 0
    assert "edges: people" in capsys.readouterr().out


def test_a_higher_limit_measures_what_was_too_large(labelled: Path, common: dict[str, Any]) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), max_pixels=10, **common)
    with pytest.raises(ValueError):
        run(config)
    done = run(replace(config, max_pixels=10**6))
    assert (value(done, "images"), done.errors) == (5, ())


def test_a_label_that_was_away_is_measured_when_it_is_back(
    labelled: Path, common: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SinglePointConfig(data=(str(labelled),), clicks=(1,), **common)
    away = [True]

    def read(row: dict[str, Any], reader: UriReader) -> TrueMasks:
        if away and row["name"] == "1":
            raise FileNotFoundError(f"{row['truth_uri']}: no such file")
        return read_masks(row, reader)

    monkeypatch.setattr("workflows.evaluate.clicks.read_masks", read)
    first = run(config)
    assert len(first.errors) == 1
    away.clear()
    done = run(config)
    assert (done.evaluation, value(done, "images"), done.errors) == (first.evaluation, 5, ())


@pytest.fixture
def known(tmp_path: Path) -> DataSet:
    """A data set of two images with a mask each, photos/photo-0.png and photo-1.png."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    images = data.add_images(photos(tmp_path / "photos", 2, rng=rng))
    mask = np.zeros((24, 36), bool)
    mask[4:20, 5:25] = True
    data.add_run([done(image, [mask], rng=rng) for image in images], run_record("one"), shard=0)
    return data


def test_what_failed_is_measured_when_it_is_there_again(known: DataSet, common: dict[str, Any], tmp_path: Path) -> None:
    config = SinglePointConfig(data=(str(known.root),), clicks=(1,), **common)
    photo = tmp_path / "photos" / "photo-1.png"
    whole = value(run(config), "1 click")
    shutil.rmtree(common["out"])
    shutil.move(photo, tmp_path / "elsewhere.png")
    failed = run(config)
    assert len(failed.errors) == 1
    shutil.move(tmp_path / "elsewhere.png", photo)
    again = run(config)
    assert (again.evaluation, again.errors, value(again, "1 click")) == (failed.evaluation, (), whole)


def test_a_picture_of_a_data_set_that_changed_is_not_measured(
    known: DataSet, common: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copy(tmp_path / "photos" / "photo-0.png", tmp_path / "photos" / "photo-1.png")
    (error,) = run(SinglePointConfig(data=(str(known.root),), clicks=(1,), **common)).errors
    assert "photo-1.png: the file has other bytes than when it was ingested" in error
