"""How failures are told: in one line that says what, where and why."""

from __future__ import annotations

from workflows.redact import redact


class WorkerError(OSError):
    """A worker could not go on, for the reason that the message gives in one line."""


def one_line(error: BaseException) -> str:
    """The message of a failure, without secrets; for those of the operating system, which file and why."""
    if isinstance(error, OSError) and error.strerror:
        return redact(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return redact(" ".join(str(error).split())) or type(error).__name__
