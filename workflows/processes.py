"""Which process of which machine left a marker in a data set, and whether it is still there."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def identity(process: int) -> dict[str, object]:
    """What tells a process of this machine from all others, for a marker.

    began: in ticks since the system did, as numbers of processes are given out again. None where there is no such
    process or only a zombie, and where the system, unlike Linux, does not say.
    """
    began = None
    with suppress(OSError):
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        began = None if state in ("Z", "X") else fields[18]
    return {"host": socket.gethostname(), "process": process, "began": began}


def is_alive_here(left: Mapping[str, object]) -> bool:
    """Whether the process of this `identity` lives on this machine; False where nobody can tell."""
    process = left.get("process")
    return bool(left.get("began")) and isinstance(process, int) and left == identity(process)
