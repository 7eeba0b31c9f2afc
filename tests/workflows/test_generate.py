"""The real command on real files over a real cluster."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from schemas.layout import in_flight_key
from tests.workflows.conftest import BIN, QUICK, Engine, Finished, mask_rows, save_photos
from tests.workflows.fault_proxy import fault_proxy
from workflows import ray_session
from workflows.plans import ShardTask
from workflows.ray_session import Pool
from workflows.shard_worker import ShardJob, ShardSummary
from workflows.sql import connect
from workflows.storage import open_store


def rows(dataset: Path | str, query: str) -> list[dict[str, Any]]:
    return connect(str(dataset)).sql(query).to_arrow_table().to_pylist()


def times(dataset: Path, folder: str) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in (dataset / folder).rglob("*.parquet")}


@pytest.fixture
def generate(cluster: str, engine: Engine, tiny_checkpoint: Path) -> Engine:
    """`sam-engine generate` with a tiny model and a quick recipe."""
    return lambda *arguments: engine("generate", *arguments, "--model", tiny_checkpoint, *QUICK)


@pytest.fixture
def generate_alone(engine_alone: Engine, tiny_checkpoint: Path) -> Engine:
    """The same without Ray."""
    return lambda *arguments: engine_alone("generate", *arguments, "--model", tiny_checkpoint, *QUICK)


@dataclass(frozen=True, slots=True)
class Example:
    """Six photographs, the data set made of them, and what the command said."""

    photos: Path
    data: Path
    said: Finished

    def copy(self, folder: Path) -> Example:
        return Example(
            shutil.copytree(self.photos, folder / "photos"), shutil.copytree(self.data, folder / "data"), self.said
        )


@pytest.fixture(scope="module")
def finished(cluster: str, tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Example:
    """Made once for all tests, by the command in a process of its own."""
    folder = tmp_path_factory.mktemp("finished")
    save_photos(folder / "photos", 6)
    command = [BIN / "sam-engine", "generate", folder / "photos", folder / "data", "--model", tiny_checkpoint, *QUICK]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    return Example(folder / "photos", folder / "data", Finished(done.returncode, done.stdout, done.stderr))


@pytest.fixture
def example(finished: Example, tmp_path: Path) -> Example:
    """A copy to change: other places, the same images."""
    return finished.copy(tmp_path)


@pytest.mark.slow
def test_a_folder_becomes_tables(finished: Example) -> None:
    assert finished.said.status == 0, finished.said.err
    (summary,) = rows(finished.data, "SELECT * FROM summary")
    assert (summary["images"], summary["errors"], summary["model"]) == (6, 0, "vit_test")
    assert summary["masks"] > 6
    assert not rows(finished.data, "SELECT * FROM problems")
    assert f"{finished.data}: run {summary['run_id']} has 6 images" in finished.said.out
    assert "6 of 6 images" in finished.said.err


def test_the_queries_it_proposes_work(finished: Example) -> None:
    proposed = [line for line in finished.said.out.splitlines() if "sam-engine sql" in line]
    assert len(proposed) == 2
    for line in proposed:
        environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
        assert subprocess.run(line, shell=True, env=environment, check=False).returncode == 0


def test_the_same_command_again_does_nothing(generate: Engine, finished: Example) -> None:
    before = times(finished.data, ".")
    again = generate(finished.photos, finished.data)
    assert again.status == 0
    assert again.out == finished.said.out
    assert times(finished.data, ".") == before


def test_three_images_more_and_only_those_are_worked_on(generate: Engine, example: Example) -> None:
    before = times(example.data, "outcomes")
    save_photos(example.photos, 3, first=6)
    more = generate(example.photos, example.data)
    assert more.status == 0
    assert "masks: 3 of 3 images" in more.err
    assert before.items() <= times(example.data, "outcomes").items()
    assert rows(example.data, "SELECT count(*) AS n, count(DISTINCT run_id) AS runs FROM outcomes") == [
        {"n": 9, "runs": 1}
    ]
    assert len(times(example.data, "plans")) == 2


def test_one_changed_setting_is_a_new_run_beside_the_old(generate_alone: Engine, example: Example) -> None:
    old = mask_rows(example.data)
    assert generate_alone(example.photos, example.data, "--crop-layers", "1").status == 0
    counts = rows(example.data, "SELECT run_id, count(*) AS images FROM outcomes GROUP BY run_id")
    assert [row["images"] for row in counts] == [6, 6]
    now = mask_rows(example.data)
    assert len(now) > len(old)
    assert now.filter(pc.equal(now["run_id"], old["run_id"][0])).equals(old)


def test_every_kind_of_bad_image_costs_only_itself(generate_alone: Engine, photos: Path, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    exif = Image.Exif()
    exif[0x112] = 6
    noise.save(photos / "whole.jpg")
    shutil.copy(photos / "whole.jpg", photos / "the same again.jpg")
    (photos / "truncated.jpg").write_bytes((photos / "whole.jpg").read_bytes()[:4000])
    (photos / "empty.png").write_bytes(b"")
    (photos / "text.jpg").write_text("no picture")
    Image.new("1", (30_000, 30_000)).save(photos / "huge.png")
    Image.new("RGB", (1, 1), (200, 3, 4)).save(photos / "pixel.png")
    noise.convert("CMYK").save(photos / "cmyk.jpg")
    Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20).save(photos / "sixteen.png")
    noise.convert("L").save(photos / "grey.png")
    noise.convert("RGBA").rotate(30).save(photos / "alpha.png")
    noise.save(photos / "turned.jpg", exif=exif)
    noise.save(photos / "moving.gif", save_all=True, append_images=[noise.rotate(90)])
    noise.rotate(3).save(photos / "фото 写真.png")
    noise.rotate(5).save(photos / ("y" * 251 + ".png"))
    done = generate_alone(photos, tmp_path / "data")
    assert done.status == 1
    assert "Traceback" not in done.err
    assert "\n1 images are too large for --max-pixels; another run, --run NAME with a larger one" in done.out
    bad = rows(
        tmp_path / "data",
        "SELECT parse_filename(uri) AS name, error_class FROM outcomes JOIN images USING (image_id) "
        "WHERE status = 'error' ORDER BY name",
    )
    assert {row["name"]: row["error_class"] for row in bad} == {
        "empty.png": "Empty",
        "huge.png": "TooManyPixels",
        "text.jpg": "NotAnImage",
        "truncated.jpg": "Damaged",
    }
    fine = rows(tmp_path / "data", "SELECT uris FROM outcomes JOIN images USING (image_id) WHERE status = 'ok'")
    assert len(fine) == 6 + 10
    assert [str(photos / "the same again.jpg"), str(photos / "whole.jpg")] in [row["uris"] for row in fine]
    (turned,) = rows(tmp_path / "data", "SELECT height, width FROM images WHERE uri LIKE '%turned.jpg'")
    assert turned == {"height": 120, "width": 90}
    assert not rows(tmp_path / "data", "SELECT * FROM problems")


def test_unreadable_files_get_their_row_and_another_try_once_they_can_be_read(
    generate_alone: Engine, photos: Path, tmp_path: Path
) -> None:
    uris = [str(photos / "photo-000.png"), str(photos / "later.png")]
    pq.write_table(pa.table({"uri": uris}), tmp_path / "list.parquet")
    assert generate_alone(tmp_path / "list.parquet", tmp_path / "data").status == 1
    errors = rows(tmp_path / "data", "SELECT error_class FROM outcomes WHERE status = 'error'")
    assert errors == [{"error_class": "Unreadable"}]
    save_photos(tmp_path / "more", 1, first=50)[0].rename(photos / "later.png")
    again = generate_alone(tmp_path / "list.parquet", tmp_path / "data")
    assert "masks: 1 of 1 images" in again.err
    assert again.status == 0
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM outcomes WHERE status = 'ok'") == [{"n": 2}]


def test_errors_of_files_that_were_replaced_or_removed_do_not_count(
    generate_alone: Engine, photos: Path, tmp_path: Path
) -> None:
    whole = save_photos(tmp_path / "more", 1, first=50)[0].read_bytes()
    for name in ("replaced.png", "removed.png", "stays.png"):
        (photos / name).write_bytes(whole[: 100 + len(name)])
    assert generate_alone(photos, tmp_path / "data").status == 1
    (photos / "replaced.png").write_bytes(whole)
    (photos / "removed.png").unlink()
    again = generate_alone(photos, tmp_path / "data")
    assert again.status == 1
    assert f"errors that do not count in the exit status, as {photos} has other images now: 2\n" in again.out
    (photos / "stays.png").unlink()
    assert generate_alone(photos, tmp_path / "data").status == 0
    counts = "SELECT count(*) FILTER (status = 'ok') AS ok, count(*) AS n FROM outcomes"
    assert rows(tmp_path / "data", counts) == [{"ok": 7, "n": 10}]


def test_errors_that_another_command_makes_meanwhile_do_not_count(
    generate_alone: Engine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pictures of its own, in the same run."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "damaged.png").write_bytes((photos / "photo-000.png").read_bytes()[:100])
    here = ray_session.run_shards

    def meanwhile(*work: Any) -> Iterator[ShardSummary]:
        with monkeypatch.context() as patch:
            patch.setattr(ray_session, "run_shards", here)
            assert generate_alone(theirs, tmp_path / "data").status == 1
        yield from here(*work)

    monkeypatch.setattr(ray_session, "run_shards", meanwhile)
    done = generate_alone(photos, tmp_path / "data")
    assert done.status == 0
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM outcomes WHERE status <> 'ok'") == [{"n": 1}]


def test_outcomes_are_not_read_before_the_work_goes_on(
    generate_alone: Engine, photos: Path, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is two requests: with 20,000 of them a resumed run stood still for minutes first."""
    here, asked = ray_session.run_shards, list[str]()
    with fault_proxy(s3_server) as (address, proxy):

        def begun(*work: Any) -> Iterator[ShardSummary]:
            asked.extend(request.partition("?")[0] for request in proxy.requests)
            return here(*work)

        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        assert generate_alone(photos, f"s3://{bucket}/data").status == 0
        save_photos(photos, 1, first=50)
        proxy.requests.clear()
        monkeypatch.setattr(ray_session, "run_shards", begun)
        assert generate_alone(photos, f"s3://{bucket}/data").status == 0
    assert asked
    assert not [request for request in asked if "/outcomes/" in request]


def test_what_others_have_planned_in_the_same_run_is_left_to_them(
    generate_alone: Engine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pictures may lie on another machine; an image that cannot be read here would stay an error for ever."""
    theirs = save_photos(tmp_path / "theirs", 2, first=50)[0].parent
    with monkeypatch.context() as killed:
        killed.setattr("workflows.generate._work", lambda *_: None)
        generate_alone(theirs, tmp_path / "data")
    theirs.rename(tmp_path / "elsewhere")
    assert generate_alone(photos, tmp_path / "data").status == 0
    counts = "SELECT count(*) FILTER (status = 'ok') AS ok, count(*) AS n FROM outcomes"
    assert rows(tmp_path / "data", counts) == [{"ok": 6, "n": 6}]
    (tmp_path / "elsewhere").rename(theirs)
    assert generate_alone(theirs, tmp_path / "data").status == 0
    assert rows(tmp_path / "data", counts) == [{"ok": 8, "n": 8}]


def test_a_run_goes_on_at_the_place_to_which_its_folder_was_moved(
    generate_alone: Engine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its plan was made; a plan is for good, and names files where they were."""
    with monkeypatch.context() as killed:
        killed.setattr("workflows.generate._work", lambda *_: None)
        generate_alone(photos, tmp_path / "data")
    photos.rename(tmp_path / "moved")
    done = generate_alone(tmp_path / "moved", tmp_path / "data")
    assert done.status == 0, done.out
    save_photos(photos, 6)
    generate_alone(photos, tmp_path / "whole")
    masks = "SELECT image_id, rle, predicted_iou FROM masks ORDER BY ALL"
    assert rows(tmp_path / "data", masks) == rows(tmp_path / "whole", masks)


def test_what_lies_beside_a_folder_that_may_not_be_listed_is_done(
    generate_alone: Engine, engine: Engine, photos: Path, tmp_path: Path, may_not_be_listed: Callable[[Path], None]
) -> None:
    save_photos(photos / "lost+found", 1, first=50)
    may_not_be_listed(photos / "lost+found")
    for done in (engine("ingest", photos, tmp_path / "noted"), generate_alone(photos, tmp_path / "data")):
        assert done.status == 1
        assert f"left out: {photos / 'lost+found'}: it may not be listed\n" in done.err
    assert rows(tmp_path / "noted", "SELECT count(*) AS n FROM images") == [{"n": 6}]
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM outcomes WHERE status = 'ok'") == [{"n": 6}]


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_workers_that_end_with_the_command_leave_no_blame(
    generate_alone: Engine, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    """Or the next command would do their shards image by image in child processes, as after a crash."""

    def interrupted(job: ShardJob, tasks: Iterable[ShardTask], _: Pool) -> Iterator[ShardSummary]:
        done, begun, *_ = [task.shard for task in tasks]
        for shard in (begun, 99):  # the other is another command's
            open_store(job.dataset).put(in_flight_key(job.run.run_id, shard), b"{}")
        yield ShardSummary(done, 1, 0, 0, 0.0)
        signal.raise_signal(number)

    monkeypatch.setattr(ray_session, "run_shards", interrupted)
    assert generate_alone(photos, tmp_path / "data").status == status
    (left,) = (tmp_path / "data" / "in_flight").rglob("*.json")
    assert left.name == "shard-00000099.json"


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_while_ray_waits_for_workers(
    cluster: str,
    generate: Engine,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    status: int,
) -> None:
    """Ray makes an exception of its own of the one that the signal became, which ended as a job with error rows."""

    def never(_: ShardJob, __: Iterable[ShardTask], ___: Pool) -> Iterator[ShardSummary]:
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
        ray.wait([ray.remote(num_cpus=10_000)(lambda: None).remote()])
        yield from ()

    monkeypatch.setattr(ray_session, "run_shards", never)
    done = generate(photos, tmp_path / "data")
    assert (done.status, "goes on where" in done.err) == (status, True)


@pytest.mark.slow
def test_s3_from_end_to_end(
    engine: Engine, finished: Example, tmp_path: Path, bucket: str, tiny_checkpoint: Path
) -> None:
    """The model lies in the bucket too: workers fetch it."""
    client = boto3.client("s3")
    for path in finished.photos.iterdir():
        client.upload_file(str(path), bucket, f"photos/{path.name}")
    client.upload_file(str(tiny_checkpoint), bucket, "tiny.safetensors")
    places = (f"s3://{bucket}/photos", f"s3://{bucket}/data")
    command = ("generate", *places, "--model", f"s3://{bucket}/tiny.safetensors", *QUICK)
    first = engine(*command)
    assert first.status == 0, first.err
    assert mask_rows(f"s3://{bucket}/data").equals(mask_rows(finished.data))
    for path in save_photos(tmp_path, 3, first=20):
        client.upload_file(str(path), bucket, f"photos/{path.name}")
    more = engine(*command)
    assert "masks: 3 of 3 images" in more.err
    assert rows(f"s3://{bucket}/data", "SELECT count(*) AS n FROM outcomes") == [{"n": 9}]


def test_a_store_that_fails_for_good_ends_in_one_line_and_the_same_command_goes_on(
    generate_alone: Engine, finished: Example, example: Example
) -> None:
    for folder in ("outcomes", "masks"):
        shutil.rmtree(example.data / folder)
    (example.data / "outcomes").write_text("in the way")
    failed = generate_alone(example.photos, example.data)
    assert failed.status == 2
    (line,) = [line for line in failed.err.splitlines() if line.startswith("sam-engine: ")]
    assert line.startswith(f"sam-engine: {example.data / 'outcomes'}")
    assert line.endswith("Not a directory")
    assert "Traceback" not in failed.err
    (example.data / "outcomes").unlink()
    assert generate_alone(example.photos, example.data).status == 0
    assert mask_rows(example.data).equals(mask_rows(finished.data))
