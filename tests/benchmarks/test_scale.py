"""The benchmarks of the engine without a model, small."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from schemas.catalog import connect
from tests.benchmarks.busy import busy_share
from tests.benchmarks.made_up import SIDE, image_bytes, write_manifest
from tests.benchmarks.rates import document
from tests.benchmarks.requests import measure
from tests.benchmarks.soak import growth, memory_by_shard
from workflows.images import decode
from workflows.rates import load_rates
from workflows.sources import list_images
from workflows.uris import UriReader


@pytest.fixture
def real_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The no-op generator puts its own reader into the process that loads it; this takes it out again."""
    monkeypatch.setattr(UriReader, "read", UriReader.read)


def test_made_up_images_are_images_each_another() -> None:
    assert decode(image_bytes(1)).shape == (SIDE, SIDE, 3)
    assert len({image_bytes(number) for number in range(300)}) == 300


def test_a_manifest_states_content(tmp_path: Path) -> None:
    write_manifest(tmp_path / "list.parquet", 10)
    found = list(list_images(str(tmp_path / "list.parquet")))
    assert len({reference.content_sha256 for reference in found}) == 10


def test_a_worker_keeps_nothing_of_its_images(tmp_path: Path) -> None:
    """A worker that kept its images' bytes or rows would grow by more than a kilobyte for each. In a process of its
    own: what other tests left behind in this one may be given back meanwhile, and counts."""
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        memory = apart.submit(memory_by_shard, tmp_path, 4096, 128).result()
    assert growth(memory, 4096) < 1000
    rows = connect(tmp_path / "data").sql("SELECT status, count(*) FROM outcomes GROUP BY ALL").fetchall()
    assert rows == [("ok", 4096)]


def test_growth_is_the_slope_of_the_second_half() -> None:
    assert growth([100.0, 150.0, 160.0, 160.0, 160.0, 160.0], 60) == pytest.approx(0, abs=1e-6)
    assert growth([0.0, 1.0, 2.0, 3.0], 40) == pytest.approx(1e5)


@pytest.mark.usefixtures("real_reader")
def test_requests_do_not_grow_faster_than_shards(bucket: str, tmp_path: Path) -> None:
    phases = measure(64, 16, f"s3://{bucket}/data", tmp_path)
    assert phases["work"] == {"PutObject": 12, "DeleteObject": 4, "GetObject": 13}
    assert phases["list_outcomes"] == {"ListObjectsV2": 1}


@pytest.mark.parametrize(
    ("begins", "finishes", "share"),
    [([0, 1], [1, 2], 1.0), ([0, 3], [1, 4], 0.5), ([0, 1], [4, 2], 1.0), ([0, 1, 8], [2, 4, 10], 0.6)],
)
def test_busy_is_what_the_spans_cover(begins: list[float], finishes: list[float], share: float) -> None:
    assert busy_share(np.array(begins, float), np.array(finishes, float)) == pytest.approx(share)


def test_the_rates_that_ship_are_those_of_the_records() -> None:
    shipped = load_rates()
    made = json.loads(json.dumps(document()))
    assert {name: made["work"][name]["encode"] for name in made["work"]} == {
        name: work.encode for name, work in shipped.work.items()
    }
    assert [rate["source"] for rate in made["measured"]] == [rate.source for rate in shipped.measured]
