from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas import catalog
from tests.workflows import fakes
from tests.workflows.conftest import Engine
from tests.workflows.fault_proxy import Fault, fault_proxy
from tests.workflows.planned import plan, planned
from workflows import patience
from workflows import sql as module
from workflows.shard_worker import ShardWorker
from workflows.sql import connect, write_table
from workflows.storage import LocalStore, Store, open_store


def fill(store: Store, folder: Path) -> str:
    (task,) = plan(store, [planned(fakes.save_flat(folder / "a.png", fakes.FINE))], shard_size=1)
    ShardWorker(fakes.shard_job(store.root)).work(task)
    return store.root


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    return fill(LocalStore(tmp_path / "data"), tmp_path)


def test_a_table_for_reading(engine: Engine, dataset: str) -> None:
    done = engine("sql", dataset, "SELECT image_id, n_masks, NULL AS nothing FROM outcomes")
    assert done.status == 0
    head, row = done.out.splitlines()
    assert head.split() == ["image_id", "n_masks", "nothing"]
    assert row.split()[1] == "1"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_path_is_a_place_too(dataset: str) -> None:
    assert connect(Path(dataset)).sql("SELECT count(*) FROM outcomes").fetchall() == [(1,)]


def test_what_is_too_wide_for_a_terminal_is_a_list(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    for query, first in (
        ("SELECT * FROM summary", ["run_id"]),
        ("SELECT run_id, masks FROM summary", ["run_id", "masks"]),
    ):
        answer = connect(dataset).sql(query).to_arrow_table()
        written = Terminal()
        write_table(answer, written)
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).split() for line in written.getvalue().splitlines()]
        assert lines[0][: len(first)] == first
        assert max(map(len, lines)) <= 2
        assert ["masks", "1"] in lines or lines[1][1] == "1"


@pytest.mark.parametrize("query", ["", " ; ", "-- nothing"])
def test_a_statement_without_an_answer_is_said(engine: Engine, dataset: str, query: str) -> None:
    done = engine("sql", dataset, query)
    assert (done.status, done.out) == (2, "")
    assert "nothing is asked; give one SQL statement" in done.err


def test_markup_in_data_is_text(engine: Engine, dataset: str) -> None:
    assert "[red]x[/red]" in engine("sql", dataset, "SELECT '[red]x[/red]' AS a").out


def test_words_between_colons_are_no_pictures(engine: Engine, dataset: str) -> None:
    assert "a:x:b.jpg" in engine("sql", dataset, "SELECT 'a:x:b.jpg' AS uri").out


def test_long_tables_say_that_they_are_cut(engine: Engine, dataset: str) -> None:
    done = engine("sql", dataset, "SELECT * FROM range(1234)")
    assert "the first 100 of 1,234 rows" in done.out


def test_csv(engine: Engine, dataset: str) -> None:
    done = engine("sql", dataset, "SELECT rle, area, 'a,\"b' AS text FROM masks", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(done.out))
    assert row["area"] == "24"
    assert row["text"] == 'a,"b'
    assert row["rle"].isascii()


def test_json(engine: Engine, dataset: str) -> None:
    query = "SELECT rle, created_at, 'nan'::DOUBLE AS nothing, [1, 2] AS list FROM masks"
    (row,) = json.loads(engine("sql", dataset, query, "--format", "json").out)
    assert row["created_at"] == "2026-01-31T12:00:00"
    assert row["nothing"] is None
    assert row["list"] == [1, 2]
    assert json.loads(engine("sql", dataset, "SELECT 1 WHERE false", "--format", "json").out) == []


def test_columns_of_one_name_are_all_there(engine: Engine, dataset: str) -> None:
    query = "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS b, 5 AS a"
    names, values = ["a", "a_2", "a_1", "b", "a_3"], ["1", "2", "3", "4", "5"]
    head, row = csv.reader(io.StringIO(engine("sql", dataset, query, "--format", "csv").out))
    assert (head, row) == (names, values)
    (entry,) = json.loads(engine("sql", dataset, query, "--format", "json").out)
    assert entry == dict(zip(names, map(int, values), strict=True))
    head, row = (line.split() for line in engine("sql", dataset, query).out.splitlines())
    assert (head, row) == (names, values)


def test_what_lies_in_lists_and_structs_is_plain_too(engine: Engine, dataset: str) -> None:
    query = "SELECT [1.0, 'nan'::DOUBLE] AS numbers, {'rle': rle, 'all': list_value(rle)} AS found FROM masks"
    (row,) = json.loads(engine("sql", dataset, query, "--format", "json").out, parse_constant=pytest.fail)
    assert row["numbers"] == [1.0, None]
    assert row["found"]["all"] == [row["found"]["rle"]]
    assert not row["found"]["rle"].startswith("b'")
    (line,) = csv.DictReader(io.StringIO(engine("sql", dataset, query, "--format", "csv").out))
    assert {name: json.loads(text) for name, text in line.items()} == row


def test_sums_and_decimals_are_numbers(engine: Engine, dataset: str) -> None:
    query = "SELECT sum(n_masks) AS masks, {'all': sum(n_masks)} AS found, 2.50 AS half FROM outcomes"
    assert json.loads(engine("sql", dataset, query, "--format", "json").out) == [
        {"masks": 1, "found": {"all": 1}, "half": 2.5}
    ]
    (row,) = csv.DictReader(io.StringIO(engine("sql", dataset, query, "--format", "csv").out))
    assert row == {"masks": "1", "found": '{"all": 1}', "half": "2.50"}
    head, shown = engine("sql", dataset, "SELECT sum(n_masks) AS masks FROM outcomes").out.splitlines()
    assert (head, shown) == ("masks", "    1")


@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_scores_are_written_as_short_as_they_are(engine: Engine, dataset: str, style: str) -> None:
    """As doubles, scores of 32 bits had nine digits more than they know: 0.44999998807907104."""
    query = """
    SELECT 0.45::FLOAT AS a, [0.1::FLOAT, NULL] AS b, {'x': 0.2::FLOAT, 'y': [0.3]::FLOAT[1]} AS c, 'nan'::FLOAT AS d,
        0.45::FLOAT::DOUBLE AS e"""
    done = engine("sql", dataset, query, "--format", style)
    assert done.status == 0, done.err
    numbers = re.findall(r"\d+\.\d+", done.out)
    assert numbers == ["0.45", "0.1", "0.2", "0.3", "0.44999998807907104"]
    assert ("None" in done.out) is False
    scores = engine("sql", dataset, "SELECT predicted_iou FROM masks", "--format", "csv").out.splitlines()[1:]
    stored = connect(dataset).sql("SELECT predicted_iou FROM masks").to_arrow_table()["predicted_iou"].to_numpy()
    assert [np.float32(score) for score in scores] == stored.tolist()


def test_a_decimal_keeps_its_digits_where_text_can_hold_them(engine: Engine, dataset: str) -> None:
    digits = "12345678901234567890.12345678"
    query = f"SELECT {digits}::DECIMAL(38, 8) AS number"
    assert engine("sql", dataset, query, "--format", "csv").out == f"number\n{digits}\n"
    assert engine("sql", dataset, query).out.split() == ["number", digits]
    assert json.loads(engine("sql", dataset, query, "--format", "json").out) == [{"number": float(digits)}]


class EndlessAnswer:
    """Stands for a connection at work: a signal comes while its answer is waited for, and only an interruption ends it.

    The signal does not wake who waits, as where it comes just before the wait begins.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._interrupted = threading.Event()

    def sql(self, _: str) -> None:
        while not any(frame.filename.endswith("futures/_base.py") for frame in _main_stack()):
            pass
        signal.pthread_kill(threading.get_ident(), self._number)  # this thread's, so that it wakes no other
        assert self._interrupted.wait(60)

    def interrupt(self) -> None:
        self._interrupted.set()


def _main_stack() -> traceback.StackSummary:
    return traceback.extract_stack(sys._current_frames()[threading.main_thread().ident or 0])


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_long_answer_can_be_broken_off(
    number: int, status: int, engine: Engine, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.sql.connect", lambda _: EndlessAnswer(number))
    done = engine("sql", dataset, "SELECT 1")
    assert (done.status, "goes on where this one stopped" in done.err) == (status, True)


class Struck(list[str]):
    """Requests that a proxy has seen; each sends a signal to this process."""

    def __init__(self, number: int) -> None:
        self._number = number

    def append(self, request: str) -> None:
        os.kill(os.getpid(), self._number)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_store_that_does_not_answer_can_be_left(
    number: int, status: int, engine: Engine, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyarrow, whose requests no signal ends, was the first to ask it: six times, for a minute each."""
    monkeypatch.setenv(patience.VARIABLE, "attempts=1 read_seconds=1000")
    with fault_proxy(s3_server) as (address, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        proxy.faults, proxy.requests = [Fault("hang")], Struck(number)
        done = engine("sql", "s3://bucket/data", "SELECT 1")
    assert (done.status, "goes on where this one stopped" in done.err) == (status, True)


@pytest.mark.parametrize("style", ["csv", "json"])
def test_rows_are_written_as_they_are_found(
    engine: Engine, dataset: str, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    """An answer may be larger than memory: all masks of a data set as CSV, for one."""
    told: list[str] = []
    found, plain = catalog.stream, module._plain

    def spied(*asked: Any, **said: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        schema, batches = found(*asked, **said)
        return schema, (told.append("found") or batch for batch in batches)

    monkeypatch.setattr(catalog, "stream", spied)
    monkeypatch.setattr(module, "_plain", lambda value: told.append("written") or plain(value))
    done = engine("sql", dataset, "SELECT * FROM range(100_000)", "--format", style)
    assert done.out.count("\n") >= 100_000
    longest = max(len(list(group)) for kind, group in itertools.groupby(told) if kind == "written")
    assert 0 < longest <= 8192
    assert "found" not in [one for one, other in itertools.pairwise(told) if one == other]


def test_of_a_long_answer_only_what_is_shown_is_kept(
    engine: Engine, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def spied(answer: pa.Table, *more: Any, **said: Any) -> None:
        kept.append(len(answer))
        write_table(answer, *more, **said)

    monkeypatch.setattr(module, "write_table", spied)
    done = engine("sql", dataset, "SELECT * FROM range(100_000)")
    assert kept == [100]
    assert "the first 100 of 100,000 rows" in done.out


@pytest.mark.parametrize("style", ["csv", "json", "table"])
def test_what_fails_in_the_middle_is_one_line(engine: Engine, dataset: str, style: str) -> None:
    query = "SELECT if(range > 90_000, error('no further'), 'fine') AS said FROM range(100_000)"
    done = engine("sql", dataset, query, "--format", style)
    assert (done.status, done.err.count("\n"), "no further" in done.err) == (2, 1, True)


@pytest.mark.parametrize("style", ["csv", "json", "table"])
def test_a_date_that_python_does_not_have_is_one_line(engine: Engine, dataset: str, style: str) -> None:
    done = engine("sql", dataset, "SELECT TIMESTAMP 'infinity' AS never", "--format", style)
    assert (done.status, done.err.count("\n"), "cast the column to VARCHAR" in done.err) == (2, 1, True)


@pytest.mark.parametrize("query", ["SELEC 1", "SELECT * FROM nowhere", "SELECT * FROM read_csv('/etc/passwd')", ""])
def test_what_cannot_be_answered_is_one_line(engine: Engine, dataset: str, query: str) -> None:
    done = engine("sql", dataset, query)
    if query:
        assert done.status == 2
        assert len(done.err.splitlines()) == 1


def test_no_data_set_is_one_line(engine: Engine, tmp_path: Path) -> None:
    done = engine("sql", tmp_path / "nowhere", "SELECT 1")
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert "nowhere" in done.err


def test_over_s3(engine: Engine, bucket: str, tmp_path: Path) -> None:
    root = fill(open_store(f"s3://{bucket}/some/data"), tmp_path)
    done = engine("sql", root, "SELECT count(*) AS n FROM masks", "--format", "csv")
    assert (done.status, done.out) == (0, "n\n1\n"), done.err
    assert engine("sql", f"s3://{bucket}/nothing", "SELECT 1").status == 2
    for address in (f"s3://{bucket}//some/data", f"s3://{bucket}/some/data//"):
        assert engine("sql", address, "SELECT count(*) AS n FROM masks", "--format", "csv").out == "n\n1\n"


def test_a_bucket_that_is_none_is_told_from_a_place_without_a_data_set(engine: Engine, s3_server: str) -> None:
    done = engine("sql", "s3://no-such-bucket/some/data", "SELECT 1")
    assert (done.status, len(done.err.splitlines()), "there is no such bucket" in done.err) == (2, 1, True), done.err


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "ExpiredToken"])
def test_a_refusal_is_told_as_the_store_tells_it(
    engine: Engine, s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """pyarrow asks by HEAD, whose answer has no room for the reason: it said `No response body`."""
    with fault_proxy(s3_server) as (address, proxy):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        proxy.faults = [Fault("refuse", 403, code)]
        done = engine("sql", f"s3://{bucket}/data", "SELECT 1")
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert f"cannot look up s3://{bucket}/data/dataset.json: {code}" in done.err


@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_time_between_two_moments_is_words(engine: Engine, dataset: str, style: str) -> None:
    """It was `MonthDayNano(months=0, ...)`, and [0, 1, ...] in JSON."""
    query = "SELECT TIMESTAMP '2026-01-02 00:00:01.5' - TIMESTAMP '2026-01-01' AS span"
    assert "0 months 1 days 1.5 seconds" in engine("sql", dataset, query, "--format", style).out


def test_a_name_does_not_command_the_terminal(engine: Engine, dataset: str) -> None:
    done = engine("sql", dataset, "SELECT 'a' || chr(27) || '[2Jb' || chr(13) || 'é' AS name")
    assert done.out.split() == ["name", r"a\x1b[2Jb\ré"]
