"""A proxy in front of an S3 server that spoils chosen answers, on the level of HTTP and of TCP."""

from __future__ import annotations

import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ALWAYS = 1_000_000_000
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "expect"}


@dataclass(slots=True)
class Fault:
    """What to do to the next `times` requests of a method (empty: any) whose path holds `path`.

    `kind` is `refuse` (answer `status` and `code`), `hang` (never answer), `reset_request` (reset halfway through the
    request), `reset_body`, `truncate`, `trickle` (the answer's body: reset or closed halfway, or a byte at a time), or
    `lose_answer` (the request is carried out and the answer lost).
    """

    kind: str
    status: int = 503
    code: str = "SlowDown"
    method: str = ""
    path: str = ""
    times: int = ALWAYS


@dataclass(slots=True)
class FaultProxy:
    """Forwards to `upstream`, an address such as `http://127.0.0.1:9000`, unless a fault is asked for."""

    upstream: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """Method and path of every request seen."""
    keys: list[str] = field(default_factory=list)
    """The access key that signed each of them."""
    closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str, path: str, signature: str = "") -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            self.keys.append(signature.partition("Credential=")[2].partition("/")[0])
            for fault in self.faults:
                if fault.times and fault.method in ("", method) and fault.path in path:
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def fault_proxy(
    upstream: str, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, FaultProxy]]:
    """A running proxy and its address, which is one of https where it has what TLS needs."""
    proxy = FaultProxy(upstream)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = _Server((host, 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://{host}:{server.server_port}", proxy
    finally:
        proxy.closing.set()
        server.shutdown()
        server.server_close()


@contextmanager
def deaf_port() -> Iterator[str]:
    """An address where no connection ever comes to stand: its queue is full and nobody accepts."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for caller in waiting:
            caller.setblocking(False)
            caller.connect_ex(server.getsockname())
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            for caller in waiting:
                caller.close()


@contextmanager
def closed_port() -> Iterator[str]:
    """An address where every connection is refused."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that go away are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def handle_one(self) -> None:
        fault = self.proxy.take(self.command, self.path, self.headers.get("Authorization", ""))
        if fault is None:
            self._answer(*self._forward())
            return
        match fault.kind:
            case "refuse":
                self.rfile.read(self._length())
                self._refuse(fault)
            case "hang":
                self.proxy.closing.wait()
                self.close_connection = True
            case "reset_request":
                self.rfile.read(self._length() // 2)
                self._reset()
            case "lose_answer":
                self._forward()
                self._reset()
            case _:
                self._spoil_body(fault.kind, *self._forward())

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_one  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        """Silent."""

    def _length(self) -> int:
        return int(self.headers.get("Content-Length", 0))

    def _forward(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body of the real server's answer."""
        address = urlsplit(self.proxy.upstream)
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        connection.request(self.command, self.path, self.rfile.read(self._length()), headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
        return answer.status, kept, body

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, sent: int | None = None) -> None:
        """The head of an answer and the first `sent` bytes of its body, all by default."""
        self.send_response_only(status)
        for name, value in headers:
            if self.command == "HEAD" or name.lower() != "content-length":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent] if self.command != "HEAD" else b"")
        self.wfile.flush()

    def _refuse(self, fault: Fault) -> None:
        body = f"<Error><Code>{fault.code}</Code><Message>as asked for by a test</Message></Error>".encode()
        self._answer(fault.status, [("Content-Type", "application/xml")], body)

    def _spoil_body(self, kind: str, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._answer(status, headers, body, sent=0 if kind == "trickle" else len(body) // 2)
        if kind == "reset_body":
            self._reset()
        for byte in body if kind == "trickle" else b"":
            self.wfile.write(bytes([byte]))
            if self.proxy.closing.wait(0.2):
                break
        self.close_connection = True

    def _reset(self) -> None:
        """End the connection by a TCP reset, as a machine that lost its state does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
