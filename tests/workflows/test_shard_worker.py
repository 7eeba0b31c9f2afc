"""Shards worked on in this process, and in the child processes that find killers; no Ray."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from sam_core.device_settings import DeviceSettings
from sam_core.recipes import Recipe
from schemas.catalog import connect, query
from schemas.ids import unreadable_image_id
from schemas.layout import images_key, in_flight_key, outcomes_key
from tests.schemas import rows
from tests.workflows import fakes
from tests.workflows.killers import memory_bomb, slow_jpeg
from tests.workflows.planned import outcomes, plan, planned
from workflows.commands import GenerateConfig
from workflows.convert import ImageResult
from workflows.failures import WorkerError
from workflows.generate import _report
from workflows.image_worker import ImageWorker, PlannedImage, ShardJob
from workflows.isolation import IsolatedWorker
from workflows.listing import Listing
from workflows.models import GeneratorSpec, find_model
from workflows.plans import ShardTask
from workflows.processes import identity
from workflows.shard_worker import ShardWorker, clear_markers
from workflows.storage import LocalStore, StoreError


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "data")


def test_a_shard_is_committed_with_every_image_accounted_for(tmp_path: Path, store: LocalStore) -> None:
    fine = planned(fakes.save_flat(tmp_path / "fine.png", fakes.FINE))
    fails = planned(fakes.save_flat(tmp_path / "fails.png", fakes.FAILS))
    wrong = planned(fakes.save_flat(tmp_path / "wrong.png", fakes.WRONG))
    gone_path = str(tmp_path / "gone.png")
    gone = PlannedImage(unreadable_image_id(gone_path), gone_path)
    changed = PlannedImage("0" * 32, fine.uri)
    (task,) = plan(store, [fine, fails, wrong, gone, changed], shard_size=10)
    summary = ShardWorker(fakes.shard_job(store.root)).work(task)
    assert (summary.images, summary.masks, summary.errors) == (5, 1, 4)
    assert outcomes(store) == {
        fine.image_id: ("ok", None, 1),
        fails.image_id: ("error", "RuntimeError", 0),
        wrong.image_id: ("error", "RowError", 0),
        gone.image_id: ("error", "Unreadable", 0),
        changed.image_id: ("error", "Changed", 0),
    }
    assert not store.exists(in_flight_key("run", 0))
    assert not len(query(connect(store.root), "SELECT * FROM problems WHERE problem <> 'not in images'"))


def test_outcomes_hold_counts_and_seconds(tmp_path: Path, store: LocalStore) -> None:
    (task,) = plan(store, [planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))], shard_size=1)
    ShardWorker(fakes.shard_job(store.root)).work(task)
    (row,) = query(connect(store.root), "SELECT * FROM outcomes").to_pylist()
    assert (row["candidates"], row["rejected_iou"], row["rejected_nms_in_crop"], row["rejected_area"]) == (3, 1, 1, 0)
    assert (row["seconds_encode"], row["seconds_decode"]) == (0.25, 0.5)
    assert row["seconds_decode_image"] > 0
    assert row["started_at"] <= row["finished_at"]


def test_a_worker_that_is_told_to_go_leaves_nothing_behind(tmp_path: Path, store: LocalStore) -> None:
    """SIGTERM to a process that answers as Ray's workers do. No marker: no image is at fault, none needs a child."""
    images = [planned(fakes.save_flat(tmp_path / f"{n}.png", fakes.FINE, size=(8 + n, 6))) for n in range(3)]
    (task,) = plan(store, images, shard_size=3)
    before = {entry.key for entry in store.list()}
    notice = fakes.FakeSource(died=str(tmp_path / "died"), death=signal.SIGTERM)
    answer = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with pytest.raises(SystemExit):
            ShardWorker(fakes.shard_job(store.root, source=notice)).work(task)
    finally:
        signal.signal(signal.SIGTERM, answer)
    assert (tmp_path / "died").exists()
    assert {entry.key for entry in store.list()} == before


def test_a_repeated_shard_leaves_the_same_masks(tmp_path: Path, store: LocalStore) -> None:
    images = [planned(fakes.save_flat(tmp_path / f"{n}.png", fakes.FINE, size=(8 + n, 6))) for n in range(3)]
    (task,) = plan(store, images, shard_size=3)
    worker = ShardWorker(fakes.shard_job(store.root))
    worker.work(task)
    first = store.get("masks/run=run/shard-00000000.parquet")
    store.delete(outcomes_key("run", 0))  # as after a death between the two files
    worker.work(task)
    assert store.get("masks/run=run/shard-00000000.parquet") == first


def test_a_shard_that_is_done_is_left_as_it_is(tmp_path: Path, store: LocalStore) -> None:
    ends = (fakes.FINE, fakes.FAILS, fakes.FINE)
    paths = [fakes.save_flat(tmp_path / f"{n}.png", end, size=(8 + n, 6)) for n, end in enumerate(ends)]
    (task,) = plan(store, [planned(path) for path in paths], shard_size=3)
    own = ShardWorker(fakes.shard_job(store.root)).work(task)
    for path in paths:
        path.unlink()
    again = ShardWorker(fakes.shard_job(store.root)).work(task)
    assert again == replace(own, seconds=0.0, by_another=True)
    assert (own.images, own.masks, own.errors, own.by_another) == (3, 2, 1, False)


def test_what_another_attempt_has_committed_meanwhile_stays(
    tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two attempts on a GPU may differ; masks of one beside the counts of the other would be neither's."""
    (task,) = plan(store, [planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))], shard_size=1)
    first, second = (
        ShardWorker(fakes.shard_job(store.root, source=fakes.FakeSource(score=score))) for score in (0.9, 0.5)
    )
    attempt = ShardWorker._attempt

    def overtaken(self: ShardWorker, images: list[PlannedImage], marker: str) -> list[ImageResult]:
        results = attempt(self, images, marker)
        if self is second:
            assert not first.work(task).by_another
        return results

    monkeypatch.setattr(ShardWorker, "_attempt", overtaken)
    assert second.work(task).by_another
    assert query(connect(store.root), "SELECT predicted_iou FROM masks").to_pylist() == [
        {"predicted_iou": np.float32(0.9)}
    ]
    assert not store.exists(in_flight_key("run", 0))


def test_the_marker_of_a_living_worker_is_no_death(store: LocalStore) -> None:
    """As of another driver on this machine."""
    worker = ShardWorker(fakes.shard_job(store.root))
    living = identity(os.getppid())
    with subprocess.Popen(["sleep", "60"]) as other:
        gone = identity(other.pid)
        other.kill()
    for marker, died in (
        (living, False),
        (gone, True),
        (living | {"began": "1"}, True),
        (living | {"host": "elsewhere"}, True),
        ({}, True),
    ):
        store.put(in_flight_key("run", 0), json.dumps(marker).encode())
        assert worker._died_before(in_flight_key("run", 0)) == died
    assert not worker._died_before(in_flight_key("run", 1))


@pytest.mark.slow
def test_a_shard_that_died_before_quarantines_the_killer_and_does_the_rest(tmp_path: Path, store: LocalStore) -> None:
    """Its in-flight marker is there, so every image goes through a child process."""
    ends = {
        "a": fakes.FINE,
        "b": fakes.KILLS,
        "c": fakes.FINE,
        "d": fakes.HANGS,
        "e": fakes.FAILS,
        "f": fakes.LOSES_GPU,
    }
    images = {
        name: planned(fakes.save_flat(tmp_path / f"{name}.png", end, size=(8 + n, 6)))
        for n, (name, end) in enumerate(ends.items())
    }
    (task,) = plan(store, list(images.values()), shard_size=10)
    store.put(in_flight_key("run", 0), b"{}")
    worker = ShardWorker(fakes.shard_job(store.root, timeout=8))
    worker.work(task)
    found = outcomes(store)
    assert {name: found[image.image_id][:2] for name, image in images.items()} == {
        "a": ("ok", None),
        "b": ("crashed", "Crashed"),
        "c": ("ok", None),
        "d": ("crashed", "Crashed"),
        "e": ("error", "RuntimeError"),
        "f": ("crashed", "Crashed"),
    }
    assert not store.exists(in_flight_key("run", 0))


def test_files_that_take_too_much_memory_or_time_are_quarantined(
    tmp_path: Path, store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb, slow = planned(memory_bomb(tmp_path / "bomb.png")), planned(slow_jpeg(tmp_path / "slow.jpg"))
    fine = planned(fakes.save_flat(tmp_path / "fine.png", fakes.FINE))
    (task,) = plan(store, [bomb, slow, fine], shard_size=10)
    store.put(in_flight_key("run", 0), b"{}")
    worker = ShardWorker(fakes.shard_job(store.root, timeout=4, memory=256 << 20))
    assert worker.work(task).errors == 2
    worker._end_child()
    rows = query(connect(store.root), "SELECT image_id, status, error_message FROM outcomes").to_pylist()
    found = {row["image_id"]: (row["status"], row["error_message"]) for row in rows}
    assert found == {
        bomb.image_id: ("crashed", "the image needs more memory than one image may take"),
        slow.image_id: ("crashed", "the image took longer than 4 s"),
        fine.image_id: ("ok", None),
    }
    listing = Mock(Listing, count_others=lambda _: 0)
    assert _report(GenerateConfig(str(tmp_path), store.root), "run", listing) == 1
    assert "3 images, 1 masks, 2 errors\n2 images took their process down" in capsys.readouterr().out


def test_the_time_limit_ends_a_process_that_decodes_in_a_thread(tmp_path: Path, store: LocalStore) -> None:
    """As at an image's first death: the reader threads hold it, the main thread waits for them."""
    images = [planned(slow_jpeg(tmp_path / "slow.jpg"))]
    (task,) = plan(store, images, shard_size=1)
    worker = multiprocessing.get_context("spawn").Process(
        target=_work, args=(fakes.shard_job(store.root, timeout=1), task)
    )
    worker.start()
    worker.join()
    assert worker.exitcode == 1
    assert store.exists(in_flight_key("run", 0))
    assert not list(store.list("outcomes"))


def test_an_image_for_which_memory_was_short_once_is_not_blamed(tmp_path: Path, store: LocalStore) -> None:
    images = [planned(fakes.save_flat(tmp_path / f"{n}.png", fakes.CRAMPED, size=(8 + n, 6))) for n in range(2)]
    (task,) = plan(store, images, shard_size=2)
    assert ShardWorker(fakes.shard_job(store.root)).work(task).errors == 0


def test_a_gpu_is_left_to_the_child_for_which_memory_was_short(
    tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first attempt held stayed on the GPU, and in memory, while a second process had the same to do."""
    held: list[BaseException | None] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(sys.exception()))
    (task,) = plan(store, [planned(fakes.save_flat(tmp_path / "a.png", fakes.CRAMPED))], shard_size=1)
    assert ShardWorker(fakes.shard_job(store.root)).work(task).errors == 0
    assert held == [None]


def _work(job: ShardJob, task: ShardTask) -> None:
    ShardWorker(job).work(task)


def test_isolated_results_equal_direct_ones(tmp_path: Path) -> None:
    image = planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))
    job = fakes.shard_job(tmp_path)
    direct = ImageWorker(job)
    child = IsolatedWorker(job)
    apart, together = child.work(image), direct.segment(direct.load(image))
    child.close()
    assert apart.generation is not None
    assert together.generation is not None
    assert apart.generation.masks.rle == together.generation.masks.rle


def test_a_model_that_does_not_load_is_not_the_image_s_fault(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"^broken checkpoint$"):
        IsolatedWorker(fakes.shard_job(tmp_path, source=fakes.FakeSource(model_error="broken checkpoint")))


def test_images_go_through_a_device_in_batches_and_leave_the_same_masks(
    tmp_path: Path, tiny_checkpoint: Path, photo: np.ndarray
) -> None:
    """With one between them that cannot be decoded."""
    for number in range(3):
        Image.fromarray(photo[number : 90 + number, :120]).save(tmp_path / f"{number}.png")
    (tmp_path / "1.5.png").write_text("no picture")
    images = [planned(path) for path in sorted(tmp_path.glob("*.png"))]
    recipe = Recipe(points_per_side=4, min_predicted_iou=0, min_stability_score=0, nms_iou=1)
    one_by_one = GeneratorSpec(find_model(str(tiny_checkpoint)), recipe, "cpu")
    batched = replace(one_by_one, settings=DeviceSettings(dtype="float32").resolve("cpu"))
    found = []
    for name, generator in (("one", one_by_one), ("batches", batched)):
        store = LocalStore(tmp_path / name)
        (task,) = plan(store, images, shard_size=10)
        summary = ShardWorker(replace(fakes.shard_job(store.root), generator=generator)).work(task)
        assert (summary.images, summary.errors, summary.masks > 3) == (4, 1, True)
        found.append(
            query(connect(store.root), "SELECT image_id, rle, area, point_x FROM masks ORDER BY ALL").to_pylist()
        )
    assert found[0] == found[1]


def test_a_lost_gpu_ends_the_process_and_the_next_one_knows_which_image_it_was(tmp_path: Path) -> None:
    child = IsolatedWorker(fakes.shard_job(tmp_path))
    result = child.work(planned(fakes.save_flat(tmp_path / "a.png", fakes.LOSES_GPU)))
    child.close()
    assert (result.status, result.error_message) == ("crashed", "the image made its process lose the GPU")


def test_an_image_that_could_not_be_read_when_it_was_noted_waits_for_its_own_name(
    tmp_path: Path, store: LocalStore
) -> None:
    late = str(fakes.save_flat(tmp_path / "late.png", fakes.FINE))
    stand_in = PlannedImage(unreadable_image_id(late), late)
    (task,) = plan(store, [stand_in], shard_size=1)
    ShardWorker(fakes.shard_job(store.root)).work(task)
    assert outcomes(store) == {stand_in.image_id: ("error", "Unreadable", 0)}


def test_an_image_is_read_where_it_is_once_the_source_has_it_elsewhere(tmp_path: Path, store: LocalStore) -> None:
    """One has moved twice, one nowhere, one is another picture at its new place, and one more at its old."""
    names = ("moved", "gone", "other", "stays", "shifted")
    paths = {name: fakes.save_flat(tmp_path / f"{n}.png", fakes.FINE, size=(8 + n, 6)) for n, name in enumerate(names)}
    images = {name: planned(path) for name, path in paths.items()}
    (task,) = plan(store, list(images.values()), shard_size=10)
    (tmp_path / "new").mkdir()
    places = [tmp_path / "a" / "nowhere.png", paths["moved"].rename(tmp_path / "new" / "0.png")]
    changed = fakes.save_flat(tmp_path / "new" / "2.png", fakes.FINE, size=(20, 20))
    for name in ("gone", "other"):
        paths[name].unlink()
    shifted = paths["shifted"].rename(tmp_path / "new" / "4.png")
    fakes.save_flat(paths["shifted"], fakes.FINE, size=(30, 30))
    noted = [(images["moved"], place) for place in places] + [(images["other"], changed), (images["shifted"], shifted)]
    known = [*images.values(), *(PlannedImage(image.image_id, str(place)) for image, place in noted)]
    parts = [rows.images([("x", image.uri)], image_id=image.image_id) for image in known]
    rows.put(Path(store.root), images_key("noted"), pa.concat_tables(parts))
    ShardWorker(fakes.shard_job(store.root)).work(replace(task, moved=True))
    assert outcomes(store) == {
        images["moved"].image_id: ("ok", None, 1),
        images["gone"].image_id: ("error", "Unreadable", 0),
        images["other"].image_id: ("error", "Unreadable", 0),
        images["stays"].image_id: ("ok", None, 1),
        images["shifted"].image_id: ("ok", None, 1),
    }


@pytest.mark.parametrize("error", [PermissionError("denied"), StoreError("there is no such bucket: old")])
def test_a_place_that_cannot_be_asked_is_no_end_where_another_has_the_image(tmp_path: Path, error: OSError) -> None:
    image = planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))
    worker = ImageWorker(fakes.shard_job(tmp_path))
    read = worker._reader.read

    def asked(uri: str) -> bytes:
        if uri.startswith("s3://"):
            raise error
        return read(uri)

    worker._reader.read = asked  # type: ignore[method-assign]
    old = "s3://old/a.png"
    assert isinstance(worker.read(PlannedImage(image.image_id, old, ("/none.png", image.uri))).data, bytes)
    if isinstance(error, StoreError):
        with pytest.raises(StoreError, match="no such bucket"):
            worker.read(PlannedImage(image.image_id, old, ("/none.png",)))
    else:
        assert not worker.can_read(PlannedImage(image.image_id, old, ("/none.png",)))


def test_a_worker_goes_through_all_parts_of_a_plan_and_the_markers_of_what_is_done_go(
    tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.plans.IMAGES_PER_PART", 2)
    images = [planned(fakes.save_flat(tmp_path / f"{n}.png", fakes.FINE, size=(8 + n, 6))) for n in range(5)]
    worker = ShardWorker(fakes.shard_job(store.root))
    assert [worker.work(task).masks for task in plan(store, images, shard_size=2)] == [2, 2, 1]
    for run, shard in (("run", 1), ("run", 2), ("run", 3), ("other", 1)):
        store.put(in_flight_key(run, shard), b"{}")
    clear_markers(store, "run")
    others = [in_flight_key("other", 1), in_flight_key("run", 3)]
    assert [entry.key for entry in store.list("in_flight")] == others


def test_a_replaced_plan_is_refused(tmp_path: Path, store: LocalStore) -> None:
    image = planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))
    other = planned(fakes.save_flat(tmp_path / "b.png", fakes.FINE, size=(9, 9)))
    (task,) = plan(store, [image], shard_size=1)
    store.delete("plans/run=run/part-0001.parquet")
    plan(store, [other], shard_size=1)
    with pytest.raises(ValueError, match="another driver replaced a part of the plan"):
        ShardWorker(fakes.shard_job(store.root)).work(task)


def test_results_say_how_many_masks(tmp_path: Path) -> None:
    worker = ImageWorker(fakes.shard_job(tmp_path))
    result = worker.segment(worker.load(planned(fakes.save_flat(tmp_path / "a.png", fakes.FAILS))))
    assert isinstance(result, ImageResult)
    assert (result.n_masks, result.error_message) == (0, "out of luck")
