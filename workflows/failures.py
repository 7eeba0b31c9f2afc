"""How failures are told: in one line that says what, where and why."""

from __future__ import annotations


class WorkerError(OSError):
    """A worker could not go on, for the reason that the message gives in one line."""


def one_line(error: BaseException) -> str:
    """The message of a failure; for those of the operating system, which file and why."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
