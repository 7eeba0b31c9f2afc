"""The real command on real files over a real cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.tables import MASKS, deterministic_columns
from tests.workflows.conftest import BIN, QUICK, Finished, save_photos
from workflows.sql import connect

pytestmark = pytest.mark.usefixtures("cluster")

Engine = Callable[..., Finished]


def rows(dataset: Path | str, query: str) -> list[dict]:
    return connect(str(dataset)).sql(query).to_arrow_table().to_pylist()


def mask_rows(dataset: Path | str) -> pa.Table:
    """Everything about the masks that may not differ between two runs."""
    columns = ", ".join(deterministic_columns(MASKS))
    return connect(str(dataset)).sql(f"SELECT {columns} FROM masks ORDER BY mask_id").to_arrow_table()


@pytest.fixture
def generate(engine: Engine, tiny_checkpoint: Path) -> Engine:
    """`sam-engine generate` with a tiny model and a quick recipe."""

    def run(*arguments: str | Path) -> Finished:
        return engine("generate", *arguments, "--model", tiny_checkpoint, *QUICK)

    return run


def test_a_folder_becomes_tables(generate: Engine, photos: Path, tmp_path: Path) -> None:
    done = generate(photos, tmp_path / "data")
    assert done.status == 0, done.err
    (summary,) = rows(tmp_path / "data", "SELECT * FROM summary")
    assert (summary["images"], summary["errors"], summary["model"]) == (6, 0, "vit_test")
    assert summary["masks"] >= 6
    assert not rows(tmp_path / "data", "SELECT * FROM problems")
    assert str(tmp_path / "data") in done.out
    assert done.out.count("sam-engine sql ") == 2
    assert "6 of 6 images" in done.err


def test_the_queries_it_proposes_work(generate: Engine, engine: Engine, photos: Path, tmp_path: Path) -> None:
    proposed = [line for line in generate(photos, tmp_path / "data").out.splitlines() if "sam-engine sql" in line]
    for line in proposed:
        shell = subprocess.run(line, shell=True, env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}, check=False)
        assert shell.returncode == 0


def test_the_same_command_again_does_nothing(generate: Engine, photos: Path, tmp_path: Path) -> None:
    generate(photos, tmp_path / "data")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.parquet")}
    again = generate(photos, tmp_path / "data")
    assert again.status == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.parquet")} == before


def test_three_images_more_and_only_those_are_worked_on(generate: Engine, photos: Path, tmp_path: Path) -> None:
    generate(photos, tmp_path / "data")
    shards = set((tmp_path / "data" / "outcomes").rglob("*.parquet"))
    untouched = {path: path.stat().st_mtime_ns for path in shards}
    save_photos(photos, 3, first=6)
    more = generate(photos, tmp_path / "data")
    assert "masks: 3 of 3 images" in more.err
    assert {path: path.stat().st_mtime_ns for path in shards} == untouched
    assert rows(tmp_path / "data", "SELECT count(*) AS n, count(DISTINCT run_id) AS runs FROM outcomes") == [
        {"n": 9, "runs": 1}
    ]
    assert len(list((tmp_path / "data" / "plans").rglob("*.parquet"))) == 2


def test_one_changed_setting_is_a_new_run_beside_the_old(generate: Engine, photos: Path, tmp_path: Path) -> None:
    generate(photos, tmp_path / "data")
    old = mask_rows(tmp_path / "data")
    assert generate(photos, tmp_path / "data", "--crop-layers", "1").status == 0
    assert generate(photos, tmp_path / "data", "--run", "second").status == 0
    counts = rows(tmp_path / "data", "SELECT run_id, count(*) AS images FROM outcomes GROUP BY run_id ORDER BY run_id")
    assert [row["images"] for row in counts] == [6, 6, 6]
    assert any(row["run_id"].startswith("second-") for row in counts)
    run = old["run_id"][0].as_py()
    now = mask_rows(tmp_path / "data")
    assert now.filter(pa.compute.equal(now["run_id"], run)).equals(old)


def test_the_same_image_twice_is_worked_on_once(generate: Engine, photos: Path, tmp_path: Path) -> None:
    (photos / "sub").mkdir()
    shutil.copy(photos / "photo-000.png", photos / "sub" / "copy.png")
    assert generate(photos, tmp_path / "data").status == 0
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM outcomes") == [{"n": 6}]
    (both,) = rows(tmp_path / "data", "SELECT uris FROM images WHERE len(uris) = 2")
    assert both["uris"] == [str(photos / "photo-000.png"), str(photos / "sub" / "copy.png")]


def test_every_kind_of_bad_image_costs_only_itself(generate: Engine, photos: Path, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    noise.save(photos / "whole.jpg")
    (photos / "truncated.jpg").write_bytes((photos / "whole.jpg").read_bytes()[:4000])
    (photos / "empty.png").write_bytes(b"")
    (photos / "text.jpg").write_text("no picture")
    Image.new("1", (30_000, 30_000)).save(photos / "huge.png")
    (photos / "gone.jpg").symlink_to(photos / "nowhere")
    Image.new("RGB", (1, 1), (200, 3, 4)).save(photos / "pixel.png")
    noise.convert("CMYK").save(photos / "cmyk.jpg")
    Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20).save(photos / "sixteen.png")
    noise.convert("L").save(photos / "grey.png")
    noise.convert("RGBA").rotate(30).save(photos / "alpha.png")
    exif = Image.Exif()
    exif[0x112] = 6
    noise.save(photos / "turned.jpg", exif=exif)
    noise.save(photos / "moving.gif", save_all=True, append_images=[noise.rotate(90)])
    noise.save(photos / "фото 写真.png")
    noise.rotate(5).save(photos / ("y" * 251 + ".png"))
    done = generate(photos, tmp_path / "data")
    assert done.status == 1
    assert "Traceback" not in done.err
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
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM outcomes WHERE status = 'ok'") == [{"n": 16}]
    (turned,) = rows(tmp_path / "data", "SELECT height, width FROM images WHERE uri LIKE '%turned.jpg'")
    assert turned == {"height": 120, "width": 90}
    assert not rows(tmp_path / "data", "SELECT * FROM problems")


def test_unreadable_files_get_their_row_and_another_try_once_they_can_be_read(
    generate: Engine, photos: Path, tmp_path: Path
) -> None:
    uris = [str(photos / "photo-000.png"), str(photos / "later.png")]
    pq.write_table(pa.table({"uri": uris}), tmp_path / "list.parquet")
    first = generate(tmp_path / "list.parquet", tmp_path / "data")
    assert first.status == 1
    assert rows(tmp_path / "data", "SELECT error_class FROM outcomes WHERE status = 'error'") == [
        {"error_class": "Unreadable"}
    ]
    save_photos(tmp_path / "more", 1, first=50)[0].rename(photos / "later.png")
    again = generate(tmp_path / "list.parquet", tmp_path / "data")
    assert "masks: 1 of 1 images, 1" in again.err or "masks: 1 of 1 images" in again.err
    assert rows(tmp_path / "data", "SELECT count(*) AS n FROM outcomes WHERE status = 'ok'") == [{"n": 2}]


def test_s3_from_end_to_end(generate: Engine, photos: Path, tmp_path: Path, bucket: str) -> None:
    client = boto3.client("s3")
    for path in photos.iterdir():
        client.upload_file(str(path), bucket, f"photos/{path.name}")
    assert generate(f"s3://{bucket}/photos", f"s3://{bucket}/data").status == 0
    assert generate(photos, tmp_path / "local").status == 0
    assert mask_rows(f"s3://{bucket}/data").equals(mask_rows(tmp_path / "local"))
    save_photos(tmp_path / "more", 3, first=20)
    for path in (tmp_path / "more").iterdir():
        client.upload_file(str(path), bucket, f"photos/{path.name}")
    more = generate(f"s3://{bucket}/photos", f"s3://{bucket}/data")
    assert "masks: 3 of 3 images" in more.err
    assert rows(f"s3://{bucket}/data", "SELECT count(*) AS n FROM outcomes") == [{"n": 9}]


def test_two_drivers_at_once_settle_on_one_plan(
    generate: Engine, photos: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    command = [BIN / "sam-engine", "generate", photos, tmp_path / "data", "--model", tiny_checkpoint, *QUICK]
    drivers = [subprocess.Popen([*map(str, command), "--threads", "1", "--workers", "1"]) for _ in range(2)]
    assert [driver.wait() for driver in drivers] == [0, 0]
    assert generate(photos, tmp_path / "alone").status == 0
    assert mask_rows(tmp_path / "data").equals(mask_rows(tmp_path / "alone"))
    assert not rows(tmp_path / "data", "SELECT * FROM problems")


def test_a_store_that_fails_for_good_ends_in_one_line_and_the_same_command_goes_on(
    generate: Engine, photos: Path, tmp_path: Path
) -> None:
    assert generate(photos, tmp_path / "data").status == 0
    whole = mask_rows(tmp_path / "data")
    for folder in ("outcomes", "masks"):
        shutil.rmtree(tmp_path / "data" / folder)
    (tmp_path / "data" / "outcomes").write_text("in the way")
    failed = generate(photos, tmp_path / "data")
    assert failed.status == 2
    assert failed.err.count("sam-engine: ") == 1
    assert "Traceback" not in failed.err
    (tmp_path / "data" / "outcomes").unlink()
    assert generate(photos, tmp_path / "data").status == 0
    assert mask_rows(tmp_path / "data").equals(whole)
