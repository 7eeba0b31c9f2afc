"""What is of S3 alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.workflows.certificates import self_signed
from tests.workflows.fault_proxy import fault_proxy
from tests.workflows.store_troubles import QUICK_PATIENCE
from workflows import s3
from workflows.storage import StoreError


def test_a_file_that_s3_does_not_take_at_once_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "LARGEST_PUT", 3)
    store, file = s3.S3Store(f"s3://{bucket}/x"), tmp_path / "file"
    file.write_bytes(b"four")
    with pytest.raises(StoreError, match=rf"cannot write s3://{bucket}/x/a: 4 bytes are more than S3 takes at once"):
        store.put_file("a", file)
    assert not store.exists("a")
    file.write_bytes(b"one")
    store.put_file("a", file)
    assert store.get("a") == b"one"


def test_what_watches_an_answer_ends_with_it(bucket: str) -> None:
    """Or a thread would stay behind for every object that is read, for minutes."""
    store = s3.S3Store(f"s3://{bucket}")
    store.put("a", b"content")
    before = set(threading.enumerate())
    for _ in range(3):
        assert store.get("a") == b"content"
    watches = [thread for thread in set(threading.enumerate()) - before if isinstance(thread, threading.Timer)]
    for watch in watches:
        watch.join(5)
        assert not watch.is_alive()


@contextmanager
def answering(status: int, body: bytes, *, headers: dict[str, str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server that gives one answer to whatever is asked: its address, and the methods of the requests."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            asked.append(self.command)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response_only(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body if self.command != "HEAD" else b"")

        do_GET = do_HEAD = do_PUT = answer  # noqa: N815 - names of the base class

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def store_at(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], s3.S3Store]:
    def store(address: str) -> s3.S3Store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        return s3.S3Store("s3://b/p", patience=QUICK_PATIENCE)

    return store


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_store_that_wants_another_address(status: int, store_at: Callable[[str], s3.S3Store]) -> None:
    """As one does that speaks https alone. botocore asked for the region of the bucket, of which the head of an answer
    says nothing either, and for that of this answer, until Python's stack ended."""
    moved = {"Location": "https://elsewhere.example/"}
    with answering(status, b"", headers=moved) as (address, asked), pytest.raises(OSError) as caught:
        store_at(address).put("a", b"")
    assert asked == ["PUT"]
    said = f"{status} the store sends on to https://elsewhere.example/; AWS_ENDPOINT_URL names its address"
    assert str(caught.value) == f"cannot write s3://b/p/a: {said}"


def test_a_list_that_cannot_be_gone_on_with_is_no_whole_one(store_at: Callable[[str], s3.S3Store]) -> None:
    """As from a store that knows the first version of the request alone."""
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>p/a</Key><ETag>e</ETag></Contents>"
    with answering(200, page + b"</ListBucketResult>") as (address, _), pytest.raises(StoreError) as caught:
        list(store_at(address).list("runs"))
    what = "the store sends a part of the list, and does not say where the next one begins"
    assert str(caught.value) == f"cannot list s3://b/p/runs: {what}"


def test_a_wrong_clock_is_that_of_a_machine(store_at: Callable[[str], s3.S3Store]) -> None:
    """Of many, only one may be wrong, and the store does not know whose."""
    refusal = b"<Error><Code>RequestTimeTooSkewed</Code><Message>Too large a difference.</Message></Error>"
    with answering(403, refusal) as (address, _), pytest.raises(StoreError) as caught:
        store_at(address).get("a")
    said = f"RequestTimeTooSkewed Too large a difference. (set the clock of {socket.gethostname()})"
    assert str(caught.value) == f"cannot read s3://b/p/a: {said}"


@pytest.mark.parametrize("trusted", ["", "/none/certificates.pem"])
def test_a_certificate_that_is_not_trusted_is_said_at_once(
    trusted: str, s3_server: str, store_at: Callable[[str], s3.S3Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was "SSLError in 6 attempts", after many seconds. A clock that is wrong shows in the same way."""
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    if trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", trusted)
    with fault_proxy(s3_server, tls=self_signed(tmp_path)[1]) as (address, _):
        store = store_at(address)
        monkeypatch.setattr("workflows.patience.random.uniform", lambda *_: pytest.fail("tried again"))
        with pytest.raises(StoreError) as caught:
            store.get("a")
    why = "No such file or directory" if trusted else "certificate verify failed: self-signed certificate"
    assert str(caught.value).startswith("cannot read s3://b/p/a: [")
    assert why in str(caught.value)
    assert str(caught.value).endswith(" (AWS_CA_BUNDLE names a file of certificates to trust)")


def test_a_store_that_does_not_speak_tls_is_said_to(s3_server: str, store_at: Callable[[str], s3.S3Store]) -> None:
    address = s3_server.replace("http:", "https:")
    with pytest.raises(StoreError, match=rf"cannot read s3://b/p/a: SSLError in 4 attempts at {address}: \[SSL"):
        store_at(address).get("a")
