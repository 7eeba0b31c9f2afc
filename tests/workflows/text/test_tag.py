"""Tags of a data set's masks as rows, views and files; killed, repeated, with other words; on Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.fake_clip import COLOURS, FakeSource
from tests.workflows.conftest import Engine
from tests.workflows.report.data_sets import DataSet, done, run_record
from workflows.sql import connect
from workflows.storage import LocalStore, open_store
from workflows.text import tag as module
from workflows.text.commands import TagConfig
from workflows.text.tag import TagJob, TagWorker, on_ray, read_words, tag

SIZE = (24, 36)
Rows = list[tuple[Any, ...]]


def box(left: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[4:20, left : left + 8] = True
    return mask


PLACES = {"red": 2, "green": 14, "blue": 26}


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Two images of a red, a green and a blue box, with a mask on each, in two shards; a third image without masks."""
    rng = np.random.default_rng(0)
    data = DataSet(tmp_path / "data")
    pixels = np.full((*SIZE, 3), 120, np.uint8)
    for name, left in PLACES.items():
        pixels[box(left)] = COLOURS[name]
    paths = []
    for number in range(3):
        pixels[0, 0] = number  # else the images were one
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    first, second, third = data.add_images(paths)
    run = run_record("one")
    masks = [box(left) for left in PLACES.values()]
    data.add_run([done(first, masks, rng=rng), done(third, [], rng=rng)], run, shard=0)
    data.add_run([done(second, masks[:2], rng=rng)], run, shard=1)
    return tmp_path / "data"


@pytest.fixture
def config(coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TagConfig:
    monkeypatch.setattr(module, "find_clip", lambda folder: FakeSource())
    (tmp_path / "words.txt").write_text("red\n\ngreen \nblue\nred\n")
    return TagConfig(str(coloured), words=str(tmp_path / "words.txt"), clip="clip", top=2)


def here(job: TagJob, rows: Iterator[dict[str, Any]], config: TagConfig) -> Iterator[dict[str, Any]]:
    return map(TagWorker(job).work, rows)


def counted(worked: list[int]) -> Callable[..., Iterator[dict[str, Any]]]:
    def work(job: TagJob, rows: Iterator[dict[str, Any]], config: TagConfig) -> Iterator[dict[str, Any]]:
        shards = list(rows)
        worked.extend(row["shard"] for row in shards)
        return here(job, iter(shards), config)

    return work


def ask(config: TagConfig, sql: str) -> Rows:
    return connect(config.dataset).sql(sql).fetchall()


def colour_of_box() -> str:
    """SQL for the colour that a mask's place has."""
    return "CASE bbox_x " + " ".join(f"WHEN {left} THEN '{name}'" for name, left in PLACES.items()) + " END"


def test_each_mask_is_named_by_its_colour(config: TagConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(config, "SELECT count(*), count(tag) FROM tagged_masks") == [(5, 0)]
    assert tag(config, pool=here) == 0
    assert "5 masks have a word" in capsys.readouterr().out
    assert ask(config, f"SELECT count(*), count(*) FILTER (tag = {colour_of_box()}) FROM tagged_masks") == [(5, 5)]
    found = ask(
        config, "SELECT rank, count(*), min(score), max(share), any_value(clip_id) FROM tags GROUP BY 1 ORDER BY 1"
    )
    assert [row[:2] for row in found] == [(1, 5), (2, 5)]
    assert found[0][2] == pytest.approx(1, abs=1e-6)
    assert 0.99 < found[0][3] <= 1
    assert found[0][4] == "fake-fafafafafafa"
    assert ask(config, "SELECT count(*) FROM tags JOIN masks USING (run_id, image_id, mask_id)") == [(10,)]


def test_again_does_nothing_and_other_words_replace(config: TagConfig, tmp_path: Path) -> None:
    worked: list[int] = []
    assert tag(config, pool=counted(worked)) == 0
    assert worked == [0, 1]
    files = list(LocalStore(Path(config.dataset)).list("tags"))
    assert [entry.key.rpartition("/")[2] for entry in files] == ["shard-00000000.parquet", "shard-00000001.parquet"]
    assert tag(config, pool=counted(worked)) == 0
    assert worked == [0, 1]
    assert list(LocalStore(Path(config.dataset)).list("tags")) == files
    (tmp_path / "words.txt").write_text("green\nyellow\n")
    assert tag(config, pool=counted(worked)) == 0
    assert worked == [0, 1, 0, 1]
    assert ask(config, "SELECT DISTINCT word FROM tags ORDER BY 1") == [("green",), ("yellow",)]


def test_the_same_clip_in_another_folder_has_named_them(config: TagConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[int] = []
    assert tag(config, pool=counted(worked)) == 0
    monkeypatch.setattr(module, "find_clip", lambda folder: FakeSource(clip_id="moved-fafafafafafa"))
    assert tag(config, pool=counted(worked)) == 0
    assert worked == [0, 1]
    other = FakeSource(sha256="ab" * 32, clip_id="fake-abababababab")
    monkeypatch.setattr(module, "find_clip", lambda folder: other)
    assert tag(config, pool=counted(worked)) == 0
    assert worked == [0, 1, 0, 1]
    assert ask(config, "SELECT DISTINCT clip_id FROM tags") == [(other.clip_id,)]


def test_an_export_knows_of_tags_what_it_asks_of_them(engine: Engine, config: TagConfig, tmp_path: Path) -> None:
    """Tags are no part of an export, and other words may name other masks in files of the same names."""
    everything = ("export", config.dataset, tmp_path / "all", "--format", "webdataset")
    of_red = ("export", config.dataset, tmp_path / "red", "--format", "webdataset")
    of_red += ("--where", "mask_id IN (SELECT mask_id FROM tags WHERE rank = 1 AND word = 'red')")
    assert engine(*everything).status == 0
    assert tag(config, pool=here) == 0
    assert engine(*everything).status == 0
    assert "2 masks" in engine(*of_red).out
    (tmp_path / "words.txt").write_text("black\nred\nwhite\n")
    assert tag(config, pool=here) == 0
    refused = engine(*of_red)
    assert (refused.status, "the data set has changed since" in refused.err) == (2, True), refused.out


def test_a_killed_one_goes_on_with_the_rest(config: TagConfig) -> None:
    def killed(job: TagJob, rows: Iterator[dict[str, Any]], config: TagConfig) -> Iterator[dict[str, Any]]:
        yield TagWorker(job).work(next(rows))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tag(config, pool=killed)
    worked: list[int] = []
    assert tag(config, pool=counted(worked)) == 0
    assert worked == [1]
    assert ask(config, "SELECT count(*) FROM tags WHERE rank = 1") == [(5,)]


def test_an_image_that_is_gone_is_named_and_tried_again(
    config: TagConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").unlink()
    assert tag(config, pool=here) == 1
    assert "1.png" in capsys.readouterr().err
    assert ask(config, "SELECT count(*), count(tag) FROM tagged_masks") == [(5, 3)]
    (tmp_path / "1.png").write_bytes(picture)
    assert tag(config, pool=here) == 0
    assert ask(config, "SELECT count(tag) FROM tagged_masks") == [(5,)]


def test_what_is_named_stays_while_its_picture_is_away(config: TagConfig, tmp_path: Path) -> None:
    """Two images of a shard, one on a disk that is away, then the other."""
    data = DataSet(tmp_path / "data")
    (first, _, third) = data.add_images([tmp_path / f"{number}.png" for number in range(3)])
    rng = np.random.default_rng(0)
    run = run_record("other")
    data.add_run([done(image, [box(2), box(14)], rng=rng) for image in (first, third)], run)
    config = replace(config, run="other")
    one, other = tmp_path / "0.png", tmp_path / "2.png"
    for away, named, status in ((one, 2, 1), (other, 4, 0)):
        away.rename(tmp_path / "away")
        assert tag(config, pool=here) == status
        assert ask(config, "SELECT count(*) FROM tags WHERE rank = 1") == [(named,)]
        (tmp_path / "away").rename(away)
    (tmp_path / "words.txt").write_text("red\nblack\n")
    other.unlink()
    assert tag(config, pool=here) == 1  # what other words have found does not stay
    assert ask(config, "SELECT count(*), count(DISTINCT words_id) FROM tags WHERE rank = 1") == [(2, 1)]


def test_a_limit_on_pixels_is_one_on_bytes(
    config: TagConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(tmp_path / "1.png", 65 << 20)
    assert tag(replace(config, max_pixels=1000), pool=here) == 1
    assert "1.png: 68,157,440 bytes are more than the limit of 67,116,864 bytes" in capsys.readouterr().err


@pytest.mark.usefixtures("fake_clip")
def test_refusals(engine: Engine, coloured: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("red\ngreen\n")

    def refused(complaint: str, dataset: Path, *arguments: str | Path) -> None:
        ran = engine("tag", dataset, "--clip", tmp_path, *arguments)
        assert (ran.status, complaint in ran.err, len(ran.err.splitlines())) == (2, True, 1), ran.err

    DataSet(tmp_path / "empty")
    refused("no masks to name", tmp_path / "empty", "--words", words)
    refused("no run 'two'", coloured, "--words", words, "--run", "two")
    refused("gone.txt: no such file", coloured, "--words", tmp_path / "gone.txt")
    words.write_text("red\n \nred\n")
    refused("has 1 words; tagging chooses among at least two", coloured, "--words", words)
    with pytest.raises(ValueError, match="--top is 0; it must be positive"):
        TagConfig("d", words="w", clip="c", top=0)


def test_a_mark_before_the_text_is_no_part_of_a_word(tmp_path: Path) -> None:
    """Which some editors write into every file."""
    words = tmp_path / "words.txt"
    words.write_text("red\ngreen\n", encoding="utf-8-sig")
    assert read_words(str(words)) == ("red", "green")


def test_words_lie_in_a_bucket_too(bucket: str) -> None:
    """Where a job on a cluster, which has a working directory of its own, can read them."""
    open_store(f"s3://{bucket}").put("words.txt", "red\r\ngrün\r\n".encode())
    assert read_words(f"s3://{bucket}/words.txt") == ("red", "grün")
    with pytest.raises(FileNotFoundError, match=f"s3://{bucket}/gone.txt does not exist"):
        read_words(f"s3://{bucket}/gone.txt")


@pytest.mark.usefixtures("cluster")
def test_on_ray_the_same_rows(config: TagConfig) -> None:
    everything = "SELECT * FROM tags ORDER BY ALL"
    assert tag(replace(config, threads=1), pool=on_ray) == 0
    found = ask(config, everything)
    for entry in LocalStore(Path(config.dataset)).list("tags"):
        LocalStore(Path(config.dataset)).delete(entry.key)
    assert tag(config, pool=here) == 0
    assert ask(config, everything) == found
    assert len(found) == 10
