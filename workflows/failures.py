"""How failures are told: in one line that says what, where and why."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

from schemas.place_errors import without_traceback
from workflows.redact import redact
from workflows.storage import StoreError

_LINES_SHOWN = 20
_NEVER_RAN = "The actor never ran"
_SHORT_OF_MEMORY = "due to the node running low on memory"
_OF_THE_MACHINE = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN),
}


class WorkerError(OSError):
    """A worker could not go on, for the reason that the message gives in one line."""


def is_of_the_machine(error: BaseException) -> bool:
    """Whether a store, a network file system or the machine fails, which passes, and not the file."""
    return isinstance(error, StoreError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE)


def one_line(error: BaseException) -> str:
    """The message of a failure, without secrets; for those of the operating system, which file and why."""
    if isinstance(error, OSError) and error.strerror:
        return redact(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return redact(" ".join(without_traceback(str(error)).split())) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of a library's message, at most 200 characters; the name of the error where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def last_line(error: BaseException) -> str:
    """The last line of a failure: of the stories that Ray tells, the cause. Behind that of a worker that was ended
    because memory was short come two pages of advice, and behind that of an actor that died as it began, that it did
    not run."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if len(lines) > 1 and lines[-1].startswith(_NEVER_RAN):
        lines.pop()
    return next((line for line in lines if _SHORT_OF_MEMORY in line), lines[-1])


def visible(text: str) -> str:
    """Text with what would break the line, move the cursor or recolour the terminal as escapes: names of files hold
    anything."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def tell_left_out(lines: Sequence[str]) -> None:
    """What a command had to leave out, on standard error; of many lines the first."""
    for line in lines[:_LINES_SHOWN]:
        print(f"left out: {visible(line)}", file=sys.stderr)
    if len(lines) > _LINES_SHOWN:
        print(f"... and {len(lines) - _LINES_SHOWN:,} more", file=sys.stderr)


def tell_denied(folders: Sequence[str]) -> None:
    """As `tell_left_out`, of folders that may not be listed."""
    tell_left_out([f"{folder}: it may not be listed" for folder in folders])
