"""Stores that fail: over HTTP through a proxy, and on disks that are full or read-only."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.layout import in_flight_key
from tests.workflows import fakes
from tests.workflows.conftest import Engine, save_photos
from tests.workflows.fault_proxy import Fault, FaultProxy, closed_port, deaf_port, fault_proxy
from tests.workflows.planned import plan, planned
from tests.workflows.store_troubles import HASTY_PATIENCE, QUICK_PATIENCE, QUICK_VARIABLE, TROUBLES, Trouble
from workflows import patience, s3
from workflows.failures import one_line
from workflows.image_worker import PlannedImage
from workflows.manifests import parquet_images
from workflows.s3 import S3Store
from workflows.shard_worker import ShardWorker
from workflows.storage import LocalStore, StoreError, open_store

SENT = {"PUT": lambda store: store.put("a", b"0123456789"), "GET": lambda store: store.get("a")}


@pytest.fixture
def proxy(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy in front of the S3 server, through which every store of the test goes."""
    with fault_proxy(s3_server) as (address, running):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv(patience.VARIABLE, " ".join(f"{k}={v}" for k, v in asdict(QUICK_PATIENCE).items()))
        yield running


@pytest.fixture
def store(proxy: FaultProxy, bucket: str) -> S3Store:
    store = S3Store(f"s3://{bucket}/p")
    store.put("a", b"0123456789")
    proxy.requests.clear()
    return store


@pytest.mark.parametrize("rows", [0, 1])
def test_a_list_on_a_store_that_fails_is_no_damaged_file(
    rows: int, store: S3Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    """As it is opened, and in the middle of it."""
    names = [f"s3://x/{n}.png" for n in range(15_000)]
    pq.write_table(pa.table({"uri": names}), tmp_path / "l.parquet", row_group_size=5_000)
    store.put("l.parquet", (tmp_path / "l.parquet").read_bytes())
    listed = parquet_images(f"{store.root}/l.parquet")
    assert len(list(islice(listed, rows))) == rows
    proxy.faults.append(Fault("reset_body", method="GET", path="l.parquet"))
    with pytest.raises(StoreError, match=rf"^cannot read {store.root}/l.parquet: AWS Error "):
        list(listed)


@pytest.fixture(params=[case for case in TROUBLES if case.passes], ids=lambda case: case.name)
def passing(request: pytest.FixtureRequest) -> Trouble:
    return request.param


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_what_passes_goes_unnoticed(method: str, passing: Trouble, store: S3Store, proxy: FaultProxy) -> None:
    if passing.fault.method not in ("", method):
        pytest.skip("cannot happen to this request")
    proxy.faults = passing.faults(times=2)
    assert SENT[method](S3Store(store.root, patience=passing.patience)) in (None, b"0123456789")
    assert proxy.faults[0].times == 0
    assert len(proxy.requests) == 3 or passing.silent, "a late answer may have been asked for again"
    assert store.get("a") == b"0123456789"


@pytest.mark.parametrize("case", TROUBLES, ids=lambda case: case.name)
def test_what_stays_ends_in_one_line_after_bounded_attempts(case: Trouble, store: S3Store, proxy: FaultProxy) -> None:
    proxy.faults = case.faults()
    method = case.fault.method or "GET"
    with pytest.raises(OSError, match=case.line) as caught:
        SENT[method](S3Store(store.root, patience=case.patience))
    assert f"{store.root}/a" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "testing" not in str(caught.value), "credentials stay secret"
    assert len(proxy.requests) == (QUICK_PATIENCE.attempts if case.passes else 1)


@pytest.mark.parametrize(
    ("port", "line"), [(deaf_port, "ConnectTimeoutError"), (closed_port, "EndpointConnectionError")]
)
def test_nobody_there(
    port: Callable[[], Iterator[str]], line: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with port() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(StoreError, match=f"^cannot read s3://b/k: {line} in 4 attempts at {address}$"):
            S3Store("s3://b", patience=QUICK_PATIENCE).get("k")


def test_a_proxy_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.invalid")
    with closed_port() as address:
        monkeypatch.setenv("http_proxy", address.replace("://", "://name:word@"))
        line = f"^cannot read s3://b/k: ProxyConnectionError in 4 attempts at {address}$"
        with pytest.raises(StoreError, match=line):
            S3Store("s3://b", patience=QUICK_PATIENCE).get("k")


def test_a_plan_whose_answer_was_lost_is_still_ours(store: S3Store, proxy: FaultProxy) -> None:
    proxy.faults = [Fault("lose_answer", method="PUT", times=1)]
    assert store.put_if_absent("plan", b"ours") == b"ours"


def test_a_plan_that_another_driver_put_first_is_theirs(store: S3Store, proxy: FaultProxy) -> None:
    open_store(store.root).put("plan", b"theirs")
    proxy.faults = [Fault("refuse", 409, "ConditionalRequestConflict", times=1), Fault("refuse", 503, times=1)]
    assert store.put_if_absent("plan", b"ours") == b"theirs"


def test_a_listing_goes_on_where_it_was_broken_off(store: S3Store, proxy: FaultProxy) -> None:
    for number in range(5):
        store.put(f"many/{number}", b"")
    whole = store._client.list_objects_v2
    store._client.list_objects_v2 = lambda **request: whole(MaxKeys=2, **request)
    listing = store.list("many")
    found = [next(listing).key]
    proxy.faults = [Fault("reset_body", method="GET", times=1), Fault("refuse", times=1)]
    assert found + [entry.key for entry in listing] == [f"many/{number}" for number in range(5)]


@pytest.mark.parametrize("kind", ["trickle", "truncate", "reset_body"])
def test_lists_and_refusals_that_break_off_are_asked_for_again(kind: str, store: S3Store, proxy: FaultProxy) -> None:
    """A byte at a time never times out by itself, and takes a minute for a page that says that there is no object."""
    hasty = S3Store(store.root, patience=HASTY_PATIENCE)
    for ask, answer in ((lambda: hasty.exists("absent"), False), (lambda: [e.key for e in hasty.list()], ["a"])):
        proxy.requests.clear()
        proxy.faults = [Fault(kind, method="GET", times=1)]
        assert ask() == answer
        assert proxy.faults[0].times == 0
        assert len(proxy.requests) == 2 or kind == "trickle", "a late answer may have been asked for again"


def test_pauses_are_random_grow_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[float] = []
    monkeypatch.setattr(patience.random, "uniform", lambda low, high: spans.append(high) or high)
    waits: list[float] = []

    def busy() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        patience.Patience(attempts=7, longest_pause_seconds=5.0).keep_trying(busy, lambda _: True, wait=waits.append)
    assert waits == spans == [1, 2, 4, 5, 5, 5]


def test_a_misspelt_limit_is_said_before_a_store_fails(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a data set on a disk nobody looked at the variable."""
    monkeypatch.setenv(patience.VARIABLE, "atempts=3")
    refused = engine("status", tmp_path)
    assert (refused.status, "'atempts=3': use NAME=NUMBER with names among" in refused.err) == (2, True)


def test_patience_is_set_by_one_variable() -> None:
    found = patience.patience_of({patience.VARIABLE: "attempts=3 read_seconds=0.5"})
    assert found == patience.Patience(attempts=3, read_seconds=0.5)
    assert patience.patience_of({}) == patience.Patience()
    assert patience.patience_of({patience.VARIABLE: QUICK_VARIABLE}).attempts == 4
    for wrong in ("attempts", "attempts=none", "tries=3"):
        with pytest.raises(ValueError, match=f"{patience.VARIABLE}='{wrong}': use NAME=NUMBER"):
            patience.patience_of({patience.VARIABLE: wrong})
    for endless in ("attempts=0", "read_seconds=inf", "connect_seconds=nan", "longest_pause_seconds=-1"):
        with pytest.raises(ValueError, match=f"{patience.VARIABLE}='{endless}': every limit must be a finite number"):
            patience.patience_of({patience.VARIABLE: endless})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("in_flight", "expired credential"),
        ("plans", "503 SlowDown"),
        ("images/", "access denied"),
        ("masks", "no such bucket"),
        ("outcomes", "expired credential"),
    ],
)
def test_a_shard_stopped_by_its_store_is_not_committed_and_is_done_later(
    path: str, name: str, tmp_path: Path, proxy: FaultProxy, bucket: str
) -> None:
    """Wherever in the shard it happens. `images/` holds the pictures themselves."""
    (case,) = [case for case in TROUBLES if case.name == name]
    store = S3Store(f"s3://{bucket}/data")
    images = _upload(tmp_path, bucket, count=3)
    (task,) = plan(store, images, shard_size=3)
    proxy.faults = case.faults(path=path)
    failure = ShardWorker(fakes.shard_job(store.root))(asdict(task))["failure"]
    assert re.search(case.line, str(failure)), failure
    proxy.faults.clear()
    assert not list(store.list("outcomes"))
    store.delete(in_flight_key("run", 0))  # or it would be done in a child process, which takes seconds to start
    assert ShardWorker(fakes.shard_job(store.root)).work(task).errors == 0
    assert len(list(store.list("outcomes"))) == 1


def test_an_image_alone_that_is_refused_costs_only_itself(tmp_path: Path, proxy: FaultProxy, bucket: str) -> None:
    store = S3Store(f"s3://{bucket}/data")
    (task,) = plan(store, _upload(tmp_path, bucket, count=3), shard_size=3)
    proxy.faults = [Fault("refuse", 403, "AccessDenied", path="images/1.png")]
    summary = ShardWorker(fakes.shard_job(store.root)).work(task)
    assert (summary.images, summary.errors) == (3, 1)


def test_a_right_that_is_taken_back_in_the_middle_of_a_shard_becomes_no_rows(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One picture was read before, and cannot be read any more."""
    store = S3Store(f"s3://{bucket}/data")
    (task,) = plan(store, _upload(tmp_path, bucket, count=3), shard_size=3)
    worker = ShardWorker(fakes.shard_job(store.root))
    read, granted = worker._worker._reader.read, iter([True])

    def refused(uri: str) -> bytes:
        if next(granted, False):
            return read(uri)
        raise PermissionError(f"cannot read {uri}: AccessDenied")

    monkeypatch.setattr(worker._worker._reader, "read", refused)
    with pytest.raises(StoreError, match=r"AccessDenied .*no image is blamed"):
        worker.work(task)
    assert not list(store.list("outcomes"))


def test_tables_that_cannot_be_read_are_no_bug(tmp_path: Path, proxy: FaultProxy, bucket: str, engine: Engine) -> None:
    """DuckDB tells it by a traceback."""
    save_photos(tmp_path / "photos", 1)
    data = f"s3://{bucket}/data"
    assert engine("ingest", tmp_path / "photos", data).status == 0
    for fault, line in (
        (Fault("refuse", 403, "AccessDenied", path="images/part-"), "images/part-.*ACCESS_DENIED"),
        # pyarrow calls it now by the one name, now by the other
        (Fault("refuse", 404, "NoSuchKey", "GET", "images/part-"), "images/part-.*(NO_SUCH_KEY|RESOURCE_NOT_FOUND)"),
        (Fault("truncate", method="GET", path="dataset.json"), f"{bucket}/data/dataset.json: .*partial file"),
    ):
        proxy.faults = [fault]
        refused = engine("report", data, "--out", tmp_path / "report.html")
        assert (refused.status, refused.err.count("\n")) == (2, 1)
        assert re.match(f"sam-engine: .*{line}", refused.err)


class TestDisks:
    def test_full(self, small_disk: Path) -> None:
        store = LocalStore(small_disk / "data")
        store.put("masks/old", b"old")
        with pytest.raises(OSError, match="No space left"):
            store.put("masks/new", bytes(1 << 20))
        assert [entry.key for entry in store.list()] == ["masks/old"]
        assert len(list((small_disk / "data" / "masks").iterdir())) == 1, "what was written in part is gone"
        store.put("masks/new", bytes(1 << 12))

    def test_full_in_the_middle_of_a_shard(self, small_disk: Path, tmp_path: Path) -> None:
        store = LocalStore(small_disk / "data")
        images = [planned(fakes.save_flat(tmp_path / f"{n}.png", fakes.FINE, size=(8 + n, 6))) for n in range(3)]
        (task,) = plan(store, images, shard_size=3)
        ballast = small_disk / "ballast"
        _fill(ballast)
        failure = ShardWorker(fakes.shard_job(store.root))(asdict(task))["failure"]
        assert str(failure).endswith("No space left on device")
        ballast.unlink()
        assert ShardWorker(fakes.shard_job(store.root)).work(task).errors == 0

    def test_read_only(self, small_disk: Path) -> None:
        store = LocalStore(small_disk / "data")
        store.put("a", b"old")
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        for write in (store.put, store.put_if_absent):
            with pytest.raises(OSError, match="Read-only file system") as caught:
                write("b", b"new")
            assert one_line(caught.value) == f"{small_disk}/data/b: Read-only file system"
        assert store.get("a") == b"old"

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        """A disk of half a megabyte; mounting it takes a superuser."""
        folder = tmp_path / "disk"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("needs the right to mount a small disk")
        yield folder
        subprocess.run(["umount", "--lazy", folder], check=True)


def _upload(folder: Path, bucket: str, *, count: int) -> list[PlannedImage]:
    """Small pictures as objects under images/."""
    remote = s3.S3Store(f"s3://{bucket}", patience=QUICK_PATIENCE)
    images = []
    for number in range(count):
        path = fakes.save_flat(folder / f"{number}.png", fakes.FINE, size=(8 + number, 6))
        remote.put(f"images/{path.name}", path.read_bytes())
        images.append(PlannedImage(planned(path).image_id, f"s3://{bucket}/images/{path.name}"))
    return images


def _fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return
