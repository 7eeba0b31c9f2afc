"""Forecasts that follow from measured rates, or say that they do not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from sam_core.recipes import draft, recipe
from schemas.layout import outcomes_key, run_key
from schemas.parquet import from_parquet_bytes, to_parquet_bytes
from schemas.records import RunRecord, from_json, to_json
from tests.benchmarks.rates import device_of
from tests.benchmarks.record import RESULTS
from tests.workflows.conftest import Engine, save_photos
from tests.workflows.test_status import half_done, spread_over_a_night
from workflows.capacity import BYTES_PER_MASK, REQUESTS_PER_SHARD, forecast
from workflows.cli import parse
from workflows.commands import PlanConfig
from workflows.rates import Rate, Rates, Work, load_rates
from workflows.sql import connect
from workflows.storage import LocalStore


def test_the_work_of_vit_h_with_the_sa1b_recipe() -> None:
    """136 TFLOP per image are the design's own sum: 21 encodings of 2,981 GMAC and 3,072 prompts of 0.57 GMAC."""
    macs = load_rates().work["vit_h"].macs(recipe("sa1b"))
    assert macs == pytest.approx(21 * 2981e9 + 3072 * 1.05e9, rel=0.05)


def test_what_was_never_measured_says_so() -> None:
    told = forecast(PlanConfig("x", model="vit_h", recipe="sa1b", utilisation=0.5), 1_000_000, load_rates())
    assert told.assumptions[0].startswith("NOT MEASURED")
    tera = 2 * load_rates().work["vit_h"].macs(recipe("sa1b")) / 1e12
    assert told.seconds == pytest.approx(tera / (989 * 0.5))


@pytest.mark.parametrize("name", ["reference", "sa1b"])
def test_what_is_assumed_of_a_gpu_is_what_one_did(name: str) -> None:
    """A share of 35 % promised 60 % of the hours that the recorded runs, of random weights, would have taken."""
    record = json.loads((RESULTS / f"generator_vit_h_{name}_gpu.json").read_text())
    told = forecast(PlanConfig("x", model="vit_h", recipe=name, gpu="h100"), 1000, load_rates())
    assert 1 <= told.seconds / record["ours"]["wall_seconds"] < 1.15
    assert device_of(record) == "h100"


def test_what_was_measured_says_where() -> None:
    rate = load_rates().find("vit_n", "draft", "cpu")
    assert rate is not None
    told = forecast(PlanConfig("x", model="vit_n", gpu="cpu"), 1000, load_rates())
    assert (told.seconds, told.masks) == (rate.seconds, rate.masks)
    assert rate.source in told.assumptions[0]


def test_hours_give_workers_and_workers_hours() -> None:
    rates = load_rates()
    assert forecast(PlanConfig("x"), 10_000_000, rates).workers == 1
    many = forecast(PlanConfig("x", hours=10), 10_000_000, rates)
    assert many.hours <= 10
    assert many.workers > 1
    assert forecast(PlanConfig("x", gpus=many.workers), 10_000_000, rates).hours == many.hours


def test_the_sums_of_a_forecast(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 images of 2 s and 10 masks each, by 4 workers at 3.60 an hour, in 67 shards of 15."""
    work = Work(encode=1000, share=100, ask=10, draw=1)
    assert work.macs(recipe("sa1b")) == (1 + 4 + 16) * 1100 + 3 * 32**2 * 11
    rate = Rate("vit_n", "draft", "cpu", 2.0, 10.0, 5, "one.json", "0", "a machine")
    rates = Rates({"vit_n": work}, (rate,), {"bytes_per_image": 100.0}, "two.json")
    told = forecast(PlanConfig("x", model="vit_n", gpu="cpu", gpus=4), 1000, rates)
    assert (told.hours, told.stored_bytes) == (500 / 3600, 1000 * (10 * BYTES_PER_MASK + 100))
    assert told.requests == 2 * 1000 + REQUESTS_PER_SHARD * 67
    monkeypatch.setattr("workflows.capacity.load_rates", lambda: rates)
    asked = ("--images", "1000", "--model", "vit_n", "--gpu", "cpu", "--gpus", "4", "--price", "3.6")
    said = dict(line.split(maxsplit=1) for line in engine("plan", "samples", *asked).out.splitlines()[:6])
    assert said["time"] == "8m 20s; 0.6 worker hours"
    assert (said["cost"], said["storage"]) == ("2.00", "0.00 GB for 10,000 masks")
    assert said["requests"] == "2,469, 2.47 per image"


def test_workers_do_not_share_an_image() -> None:
    """Four images were to be done by 100 workers in a 25th of the time of one, or by thousands in any time."""
    rates = load_rates()
    one = forecast(PlanConfig("x"), 1, rates).hours
    assert forecast(PlanConfig("x", gpus=100), 4, rates).hours == one
    hurried = forecast(PlanConfig("x", hours=one / 1000), 4, rates)
    assert (hurried.workers, hurried.hours) == (4, one)


def test_a_folder_is_counted_and_its_cost_told(engine: Engine, tmp_path: Path) -> None:
    save_photos(tmp_path / "photos", 3)
    said = engine(
        "plan", tmp_path / "photos", "--model", "vit_h", "--recipe", "sa1b", "--gpu", "h200", "--price", "3.5"
    )
    assert said.status == 0
    for word in ("images    3", "h200", "cost", "storage", "requests", "NOT MEASURED", "data set SA-1B"):
        assert word in said.out


def test_foretold_beside_found(engine: Engine, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "data")
    half_done(store, tmp_path, model="vit_n")
    said = engine("plan", store.root, "--actual", "--gpu", "cpu")
    assert said.status == 0, said.err
    assert "run run: vit_n, draft, 4 images" in said.out
    assert "worker seconds per image" in said.out
    assert engine("plan", store.root, "--actual", "--gpu", "cpu", "--run", "run").out == said.out
    refused = engine("plan", store.root, "--actual", "--run", "other")
    assert (refused.status, "no run other by generate" in refused.err, "it holds run (vit_n)" in refused.err) == (
        2,
        True,
        True,
    )


def test_steps_of_threads_side_by_side_take_a_workers_time_once(engine: Engine, tmp_path: Path) -> None:
    """Two threads: the steps of an image are as long together as twice the time that the worker had for it."""
    store = LocalStore(tmp_path / "data")
    half_done(store, tmp_path, model="vit_n")
    begun = datetime(2026, 1, 2)
    for shard in (0, 1):
        table = from_parquet_bytes(store.get(outcomes_key("run", shard)))
        for number, row in enumerate(rows := table.to_pylist()):
            place = 2 * shard + number
            row |= {"started_at": begun + timedelta(seconds=4 * max(0, place - 1)), "seconds_read": 1.0}
            row |= {"finished_at": begun + timedelta(seconds=4 * place + 5), "seconds_decode": 8.0, "host": "here"}
        store.put(outcomes_key("run", shard), to_parquet_bytes(pa.Table.from_pylist(rows, table.schema)))
    masks = connect(str(store.root)).execute("SELECT count(*) FROM masks").fetchall()[0][0]
    found = dict(re.findall(r"^(\S[a-z -]+?) {2,}.*?(\S+(?: %)?)$", engine("plan", store.root, "--actual").out, re.M))
    assert found["worker seconds per image"] == "4"  # from 1 s, when the first is read, to 17 s
    assert found["busy share of the workers"] == "94 %"
    assert found["masks per image"] == f"{masks / 3:.1f}"  # the fourth failed


def test_a_night_between_two_commands_is_nobodys_time(engine: Engine, tmp_path: Path) -> None:
    """One worker for 20 s in the evening and another for 20 s in the morning, each at work for 16 of them."""
    store = LocalStore(tmp_path / "data")
    half_done(store, tmp_path, model="vit_n")
    spread_over_a_night(store)
    said = engine("plan", store.root, "--actual", "--gpu", "cpu").out
    assert "4 images, 1 worker at once" in said
    found = dict(re.findall(r"^(\S[a-z -]+?) {2,}.*?(\S+(?: %)?)$", said, re.M))
    assert (found["wall-clock"], found["worker seconds per image"]) == ("40s", "8")
    assert found["busy share of the workers"] == "80 %"


def test_a_run_is_foretold_by_its_own_recipe_and_imports_are_passed_over(engine: Engine, tmp_path: Path) -> None:
    """A run of 8 x 8 prompts, and a newer one whose masks somebody else made."""
    store = LocalStore(tmp_path / "data")
    half_done(store, tmp_path, model="vit_n")
    few = replace(draft(), points_per_side=8)
    record = from_json(RunRecord, store.get(run_key("run")), where="run")
    store.put(run_key("run"), to_json(replace(record, name="few", recipe=json.loads(few.to_json()))).encode())
    newer = record.created_at + timedelta(days=1)
    own = {"created_at": newer, "recipe_name": "imported", "recipe": {"kind": "coco", "digest": "x"}}
    for number, model in enumerate(("imported", "vit_n")):
        brought = replace(record, run_id=f"brought-{number}", name="brought", model_name=model, **own)
        store.put(run_key(brought.run_id), to_json(brought).encode())
    said = engine("plan", store.root, "--actual", "--gpu", "h200")
    assert said.status == 0, said.err
    assert "run run: vit_n, draft with other values, 4 images" in said.out
    assert engine("plan", store.root, "--actual", "--gpu", "h200", "--run", "few").out == said.out
    told = forecast(PlanConfig("x", model="vit_n", recipe="draft"), 4, load_rates(), few)
    assert told.seconds < forecast(PlanConfig("x", model="vit_n", recipe="draft"), 4, load_rates()).seconds / 4
    assert f"{told.seconds:.3g}" in said.out
    refused = engine("plan", store.root, "--actual", "--gpu", "cpu")
    assert "vit_n with draft and other values was never measured on a CPU" in refused.err
    assert refused.err.count("vit_n with draft") == 2  # what is asked, and what is known, once


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--gpu", "abacus"), "--gpu abacus is not known"),
        (("--model", "vit_x"), "--model vit_x is not known; known are vit_b, vit_l, vit_h, vit_t, vit_n\n"),
        (("--recipe", "sa1c"), "no recipe is called 'sa1c'"),
        (("--model", "vit_h", "--gpu", "cpu"), "never measured on a CPU"),
    ],
)
def test_refusals(engine: Engine, flags: tuple[str, ...], words: str) -> None:
    said = engine("plan", "samples", *flags, "--images", "5")
    assert said.status == 2
    assert words in said.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--gpus", "2", "--hours", "3"), "--gpus and --hours exclude each"),
        (("--utilisation", "0"), "--utilisation is 0.0; it must be positive"),
        (("--utilisation", "35"), "--utilisation is 35.0; it is a share of the peak, at most 1"),
        (("--run", "first"), "--run goes only with --actual"),
        (("--actual", "--price", "3.5"), "--price does not go with --actual"),
    ],
)
def test_flags_without_sense(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(["plan", "samples", *flags])
