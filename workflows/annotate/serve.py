"""`sam-engine annotate`: open the task, say where it is, serve until interrupted."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import sys
from dataclasses import replace
from threading import Timer
from types import FrameType
from urllib.parse import quote

import uvicorn

from workflows.annotate.assets import AssetError, Runtime, find_runtime
from workflows.annotate.commands import TOKEN_VARIABLE, AnnotateConfig
from workflows.annotate.merging import merging
from workflows.annotate.presence import serving
from workflows.annotate.server import create_app
from workflows.annotate.studio import open_studio
from workflows.failures import one_line
from workflows.progress import plural
from workflows.storage import open_store

LEAVING_SECONDS = 20.0
"""How long what is under way is waited for at the end."""
_EVERYWHERE = ("0.0.0.0", "::", "")


def annotate(config: AnnotateConfig) -> int:
    """The subcommand. Raises ValueError or OSError (one line) when the task cannot be opened or the port is taken."""
    token = _token(config)
    studio = open_studio(config)
    runtime = _runtime() if config.browser_decoder else None
    app = create_app(studio, token=token, runtime=runtime)
    listener = _listen(config)
    port = listener.getsockname()[1]
    where = "in the browser" if runtime else "on this server"
    print(f"{config.dataset}: {len(studio.images):,} images, stage {config.stage}, clicks are decoded {where}")
    server = _Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=65))
    store = open_store(config.dataset)
    try:
        with serving(store, config.table_stage, config.round), merging(store):
            print("open", "\nor, on this machine, ".join(addresses_of(config, port, token)), flush=True)
            server.run(sockets=[listener])
    finally:
        server.has_ended()
    return 0


class _Server(uvicorn.Server):
    """Ends within LEAVING_SECONDS of a signal, and at once at a second one: of a browser that was cut off in the middle
    of a save the rest is waited for without end, and of a store that does not answer for many minutes. What was not
    answered is sent again by the browsers."""

    _limit: Timer | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            _leave(sig)
        super().handle_exit(sig, frame)
        self._limit = Timer(LEAVING_SECONDS, _leave, [sig])
        self._limit.daemon = True
        self._limit.start()
        if waiting := len(self.server_state.tasks):
            under_way = plural(waiting, "request")
            _say(f"{under_way} under way, for {LEAVING_SECONDS:.0f} s at most; a second signal ends all")

    def has_ended(self) -> None:
        """Nothing is waited for any more."""
        if self._limit:
            self._limit.cancel()


def _leave(sig: int) -> None:
    """End the process, whatever its threads wait for."""
    _say("the server has left what was under way; browsers keep what was not saved, and send it again")
    os._exit(128 + sig)


def _say(line: str) -> None:
    """To stderr, past Python's buffer: a signal may come while another one's line is being written, and the buffer
    takes nothing then."""
    with contextlib.suppress(OSError):
        os.write(2, f"sam-engine: {line}\n".encode())


def _token(config: AnnotateConfig) -> str | None:
    """What every request must carry; None where the machine's users are trusted. Raises ValueError."""
    if given := config.token or os.environ.get(TOKEN_VARIABLE):
        return replace(config, token=given).token
    return None if config.is_local else secrets.token_urlsafe(24)


def _runtime() -> Runtime | None:
    """ONNX Runtime Web, or one line on what is missing."""
    try:
        return find_runtime()
    except (AssetError, OSError) as error:
        print(f"sam-engine: {one_line(error)}; until then the server decodes", file=sys.stderr)
        return None


def _listen(config: AnnotateConfig) -> socket.socket:
    try:
        return socket.create_server(
            (config.host, config.port), family=socket.AF_INET6 if ":" in config.host else socket.AF_INET, backlog=256
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        taken = "; end what listens there, as the app of an earlier round, or take another --port"
        hint = taken if error.errno == errno.EADDRINUSE else ""
        raise OSError(f"cannot listen on {config.host} port {config.port}: {why}{hint}") from error


def addresses_of(config: AnnotateConfig, port: int, token: str | None) -> list[str]:
    """What to open; the token stands behind the #, which browsers do not send and servers do not log. Firefox opens no
    0.0.0.0, and other machines find nothing there: they go by this one's name."""
    hosts = [socket.gethostname(), "localhost"] if config.host in _EVERYWHERE else [config.host]
    behind = f"#token={quote(token, safe='')}" if token else ""
    return [f"http://[{host}]:{port}/{behind}" if ":" in host else f"http://{host}:{port}/{behind}" for host in hosts]
