"""No secret in what is shown or kept."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest

from tests.workflows import fakes
from tests.workflows.conftest import Engine
from tests.workflows.planned import plan, planned
from workflows.commands import GenerateConfig
from workflows.failures import one_line
from workflows.manifests import describe
from workflows.redact import redact
from workflows.shard_worker import ShardWorker
from workflows.sql import connect
from workflows.storage import LocalStore, open_store

SECRET = "wJalrXUtnFEMIsecretEXAMPLEKEY"
KEY = "AKIAIOSFODNN7EXAMPLE"
LEAKS = [
    f"https://user:{SECRET}@host/a.jpg",
    f"s3://{KEY}:{SECRET}@bucket/a.jpg",
    f"https://b.s3.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4&X-Amz-Credential={KEY}%2F2026&X-Amz-Signature={SECRET}",
    f"https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId={KEY}&Expires=1&Signature={SECRET}",
    f"https://storage.googleapis.com/b/a.jpg?X-Goog-Signature={SECRET}",
    f"https://account.blob.core.windows.net/c/a.jpg?sv=2024&sig={SECRET}",
    f"could not fetch 'https://host/a.jpg?token={SECRET}' (403)",
    f"https://user:p@ss{SECRET}@host/a.jpg",
    f"https://host/a.jpg#access_token={SECRET}",
    f"https://host/a.jpg?private_token={SECRET}&client_secret={SECRET}",
    f"https://host/get?url=https%3A%2F%2Fbucket%2Fa.jpg%3FX-Amz-Signature%3D{SECRET}%26size%3D1",
]


@pytest.mark.parametrize("text", LEAKS)
def test_secrets_are_taken_out_and_the_rest_stays(text: str) -> None:
    shown = redact(text)
    assert SECRET not in shown
    assert KEY not in shown
    assert "a.jpg" in shown


@pytest.mark.parametrize("text", ["s3://bucket/a@b.jpg", "/photos/me@home?.png", "https://host/a.jpg?size=3&id=7", ""])
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_long_text_takes_no_longer_than_it_is_long() -> None:
    """A cell of 1 MB with a dot at every other place took seven minutes."""
    for text in ("a." * 500_000, "://" * 300_000, "?token" * 200_000, "://a" * 200_000):
        assert redact(text) == text


@pytest.mark.parametrize("leak", LEAKS[:6])
def test_commands_refuse_them_without_repeating_them(engine: Engine, tmp_path: Path, photos: Path, leak: str) -> None:
    for arguments in ((leak, tmp_path / "data"), (photos, leak)):
        done = engine("ingest", *arguments)
        assert (done.status, len(done.err.splitlines())) == (2, 1)
        assert SECRET not in done.err + done.out
    assert SECRET not in engine("sql", leak, "SELECT 1").err


@pytest.mark.parametrize("leak", LEAKS)
def test_messages_and_run_records_hold_none(leak: str) -> None:
    assert SECRET not in one_line(ValueError(leak))
    assert SECRET not in one_line(FileNotFoundError(2, "No such file", leak))
    assert SECRET not in str(GenerateConfig(leak, leak).record())


@pytest.mark.parametrize("kind", [ValueError, KeyError])
def test_tracebacks_hold_none(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    """Neither those that were asked for nor those of bugs, which go into reports: botocore repeats the endpoint."""

    def fails(_: object) -> None:
        try:
            raise ConnectionError(LEAKS[0])
        except ConnectionError as error:
            raise kind("failed") from error

    monkeypatch.setenv("SAM_ENGINE_TRACEBACK", "1")
    monkeypatch.setattr("workflows.ingest.ingest_command", fails)
    said = engine("ingest", tmp_path, tmp_path / "data").err
    assert "ConnectionError: https://***@host/a.jpg" in said
    assert SECRET not in said


def test_outcomes_hold_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "data")
    (task,) = plan(store, [planned(fakes.save_flat(tmp_path / "a.png", fakes.FINE))], shard_size=1)

    def fails(*_: object) -> None:
        raise RuntimeError(LEAKS[2])

    monkeypatch.setattr(fakes.FakeGenerator, "generate", fails)
    ShardWorker(fakes.shard_job(store.root)).work(task)
    ((message,),) = connect(store.root).execute("SELECT error_message FROM outcomes").fetchall()
    assert "a.jpg" in message
    assert SECRET not in message


def test_a_data_set_on_s3_holds_none(
    engine: Engine, bucket: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET[::-1])
    done = engine("ingest", photos, f"s3://{bucket}/data")
    assert done.status == 0, done.err
    store = open_store(f"s3://{bucket}/data")
    kept = b"".join(store.get(entry.key) for entry in store.list()) + (done.out + done.err).encode()
    for secret in (SECRET, KEY, SECRET[::-1]):
        assert secret.encode() not in kept
    assert boto3.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] >= 2


@pytest.mark.parametrize("leak", LEAKS)
def test_metadata_hold_none_and_stay_json(leak: str) -> None:
    told = {"link": f'<a href="{leak}">"me"</a>', "list": [leak, {"more": f'{leak}"'}], leak: 7, "licence": leak}
    licence, metadata = describe(told)
    assert SECRET not in licence + metadata
    shown = json.loads(metadata)
    assert shown["link"].endswith('">"me"</a>')
    assert shown["list"][1]["more"].endswith('"')
    assert 7 in shown.values()
