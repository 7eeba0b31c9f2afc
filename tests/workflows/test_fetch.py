"""Checkpoints over real HTTP: whole, resumed, wrong, and cut off."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sam_core.model.checkpoint import RELEASED_FILES
from workflows.cli import main
from workflows.failures import one_line
from workflows.fetch import CHUNK, RELEASES, Release, fetch, file_name

DATA = bytes(range(256)) * 2000


class Server(BaseHTTPRequestHandler):
    """Serves DATA at /whole, without ranges at /plain, cut off in the middle at /cut, without an end at /stall, and
    something else at /page; notes what was asked."""

    def __init__(self, asked: list[str | None], *args: object) -> None:
        self._asked = asked
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self._asked.append(wanted)
        if self.path == "/gone":
            self.send_error(404)
            return
        if self.path == "/page":
            self._page()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.path != "/plain" else 0
        if start >= len(DATA):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        self.wfile.write(DATA[start : start + {"/cut": 1000, "/stall": 300_000}.get(self.path, len(DATA))])
        if self.path == "/stall":
            self.rfile.read(1)  # until the client goes away

    def _page(self) -> None:
        """What a network answers to everything until somebody logs in."""
        page = b"<html>Welcome to our hotel</html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def asked() -> list[str | None]:
    return []


@pytest.fixture
def address(asked: list[str | None]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def release(address: str, path: str = "/whole", sha256: str = "") -> dict[str, Release]:
    return {"vit_b": Release(address + path, sha256 or hashlib.sha256(DATA).hexdigest())}


def test_a_checkpoint_is_fetched_once(tmp_path: Path, address: str, asked: list[str | None]) -> None:
    for _ in range(2):
        path = fetch("vit_b", str(tmp_path / "new"), releases=release(address))
        assert path.name == RELEASED_FILES["vit_b"]
        assert path.read_bytes() == DATA
    assert asked == [None]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("path", ["/whole", "/plain"])
def test_a_download_goes_on_where_it_stopped(tmp_path: Path, address: str, asked: list[str | None], path: str) -> None:
    with pytest.raises(OSError, match="ended after 1,000 of 512,000 bytes; the same command goes on"):
        fetch("vit_b", str(tmp_path), releases=release(address, "/cut"))
    assert fetch("vit_b", str(tmp_path), releases=release(address, path)).read_bytes() == DATA
    assert asked == [None, "bytes=1000-"]


def test_a_page_in_its_place_takes_nothing_away(tmp_path: Path, address: str) -> None:
    """It began the file anew, and then had a wrong hash: what had been fetched was gone."""
    partial = tmp_path / f"{RELEASED_FILES['vit_b']}.partial"
    partial.write_bytes(DATA[:1000])
    with pytest.raises(OSError, match="cannot be fetched: a web page is answered"):
        fetch("vit_b", str(tmp_path), releases=release(address, "/page"))
    assert partial.read_bytes() == DATA[:1000]


def test_what_came_before_a_silence_stays(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where less than a megabyte came at a time, the same command began at the same place for ever."""
    monkeypatch.setattr("workflows.fetch.SECONDS_WITHOUT_DATA", 0.5)
    with pytest.raises(OSError, match="cannot be fetched: timed out; the same command goes on where it stopped"):
        fetch("vit_b", str(tmp_path), releases=release(address, "/stall"))
    partial = tmp_path / f"{RELEASED_FILES['vit_b']}.partial"
    assert partial.read_bytes() == DATA[: 300_000 // CHUNK * CHUNK]


@pytest.mark.parametrize("ended", ["/whole", "/cut"])
def test_two_at_once_are_one_after_the_other(
    tmp_path: Path, address: str, asked: list[str | None], ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each put the same bytes behind those of the other, and what had been fetched was removed as of a wrong hash."""
    (tmp_path / f"{RELEASED_FILES['vit_b']}.partial").write_bytes(DATA[:500])
    waiting, found = threading.Event(), list[Path]()
    second = threading.Thread(target=lambda: found.append(fetch("vit_b", str(tmp_path), releases=release(address))))
    monkeypatch.setattr("workflows.fetch.print", lambda *_, **__: waiting.set(), raising=False)
    opened = urllib.request.urlopen

    def opened_while_another_waits(*request: Any, **limits: Any) -> Any:
        if not second.ident:
            second.start()
            assert waiting.wait(60)
        return opened(*request, **limits)

    monkeypatch.setattr("urllib.request.urlopen", opened_while_another_waits)
    with pytest.raises(OSError, match="ended after") if ended == "/cut" else nullcontext():
        fetch("vit_b", str(tmp_path), releases=release(address, ended))
    second.join()
    assert found[0].read_bytes() == DATA
    assert asked == (["bytes=500-", "bytes=1500-"] if ended == "/cut" else ["bytes=500-"])
    assert [entry.name for entry in tmp_path.iterdir()] == [RELEASED_FILES["vit_b"]]


def test_a_full_disk_is_named(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("rich.progress.Progress.advance", full)  # where a piece is written
    with pytest.raises(OSError, match="No space left") as caught:
        fetch("vit_b", str(tmp_path), releases=release(address))
    assert one_line(caught.value) == f"{tmp_path}/{RELEASED_FILES['vit_b']}.partial: No space left on device"


def test_a_download_that_was_only_not_renamed_is_kept(tmp_path: Path, address: str) -> None:
    (tmp_path / f"{RELEASED_FILES['vit_b']}.partial").write_bytes(DATA)
    assert fetch("vit_b", str(tmp_path), releases=release(address)).read_bytes() == DATA


def test_a_wrong_hash_is_refused_and_nothing_stays(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match=f"has SHA-256 {hashlib.sha256(DATA).hexdigest()}, not 0+; it was removed"):
        fetch("vit_b", str(tmp_path), releases=release(address, sha256="0" * 64))
    assert not list(tmp_path.iterdir())


def test_refusals(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="cannot be fetched: HTTP Error 404"):
        fetch("vit_b", str(tmp_path), releases=release(address, "/gone"))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="did you mean 'vit_b'"):
        fetch("vit_bb", str(tmp_path), releases=release(address))
    with pytest.raises(ValueError, match="vit_n ships inside the package: there is nothing to fetch"):
        fetch("vit_n", str(tmp_path), releases=release(address))
    with pytest.raises(ValueError, match=r"say which checkpoint: vit_b$"):
        fetch("", str(tmp_path), releases=release(address))
    with pytest.raises(ValueError, match="s3://b/models: checkpoints are fetched to a local folder"):
        fetch("vit_b", "s3://b/models", releases=release(address))
    monkeypatch.delenv("SAM_ENGINE_CHECKPOINTS", raising=False)
    with pytest.raises(ValueError, match="--folder FOLDER, or set SAM_ENGINE_CHECKPOINTS"):
        fetch("vit_b", None, releases=release(address))


def test_the_command_says_where_to_keep_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAM_ENGINE_CHECKPOINTS", raising=False)
    assert main(["models", "fetch", "vit_t"]) == 2
    assert "say where to keep it" in capsys.readouterr().err


def test_every_released_file_has_an_address_and_a_hash() -> None:
    assert RELEASES.keys() == RELEASED_FILES.keys() | {"yunet"}
    assert all(found.url.endswith(f"/{file_name(name)}") for name, found in RELEASES.items())
    assert all(len(found.sha256) == 64 for found in RELEASES.values())
