"""How failures are told: in one line that says what, where and why."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from workflows.redact import redact

_LINES_SHOWN = 20


class WorkerError(OSError):
    """A worker could not go on, for the reason that the message gives in one line."""


def one_line(error: BaseException) -> str:
    """The message of a failure, without secrets; for those of the operating system, which file and why."""
    if isinstance(error, OSError) and error.strerror:
        return redact(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return redact(" ".join(str(error).split())) or type(error).__name__


def tell_left_out(lines: Sequence[str]) -> None:
    """What a command had to leave out, on standard error; of many lines the first."""
    for line in lines[:_LINES_SHOWN]:
        print(f"left out: {line}", file=sys.stderr)
    if len(lines) > _LINES_SHOWN:
        print(f"... and {len(lines) - _LINES_SHOWN:,} more", file=sys.stderr)
