"""The head of the Ray cluster that a command works with, and what is said when it is gone.

Without it nothing goes on. Ray waits for it, a minute if nothing else is asked for, and then ends the process in native
code: without a word, and with status 1, which here means that all is done but for error rows.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from threading import Thread

import ray

_PATIENCE_VARIABLE = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RAYS_PATIENCE = "60"
_SHARE = 0.75
"""Of Ray's patience, after which the command ends by itself."""
_PAUSE = 1.0
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS}
"""Errors of this process, which say nothing of the head."""
_STATUS = 2
"""Of a command that a machine or a store stops."""


def watch_head() -> None:
    """End this process with a line and status 2 when the head of the cluster that it has joined is gone for long."""
    address = ray.get_runtime_context().gcs_address
    silence = _SHARE * float(os.environ.get(_PATIENCE_VARIABLE, _RAYS_PATIENCE))
    if answers(address, _PAUSE):  # else it is reached in another way, as by Ray's client
        Thread(target=_end_when_gone, args=(address, silence), daemon=True).start()


def _end_when_gone(address: str, silence: float) -> None:
    wait_until_silent(address, silence, pause=_PAUSE)
    if ray.is_initialized() and ray.get_runtime_context().gcs_address == address:
        lost = f"the Ray cluster at {address} does not answer any more; the same command goes on where this one stopped"
        print(f"sam-engine: {lost}", file=sys.stderr, flush=True)
        os._exit(_STATUS)  # whatever else is asked of Ray now waits for the head, and ends as it would have


def wait_until_silent(address: str, seconds: float, *, pause: float) -> None:
    """Return once nobody has answered at HOST:PORT for so long."""
    failing_since = None
    while failing_since is None or time.monotonic() - failing_since < seconds:
        if answers(address, pause):
            failing_since = None
        elif failing_since is None:
            failing_since = time.monotonic()
        time.sleep(pause)


def answers(address: str, seconds: float) -> bool:
    """Whether somebody takes a connection at HOST:PORT within that time."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except OSError as error:
        return error.errno in _OURS
    return True
