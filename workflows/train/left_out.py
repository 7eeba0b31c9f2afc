"""Pictures that a training cannot read: told apart from stores that fail, told to the user, and bounded in number."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from workflows.failures import is_of_the_machine, one_line
from workflows.images import UNREADABLE, ImageError
from workflows.storage import TooLargeError

LAST = 100
"""Of so many pictures that were last drawn from a source, half may be unreadable. More is no single picture's fault:
a source moved, or access to it was withdrawn."""


class UnreadableError(ValueError):
    """A picture that cannot be used although its store answers: `place` says which, `reason` why, in one line; `gone`
    that its file is not there or refused, and not what it holds."""

    def __init__(self, place: str, reason: str, *, gone: bool = False) -> None:
        super().__init__(place, reason)
        self.place, self.reason, self.gone = place, reason, gone

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@contextmanager
def blamed_on(place: str) -> Iterator[None]:
    """Whatever is wrong with a file becomes the UnreadableError of a picture; the failures of a store or of the machine
    stay OSErrors."""
    try:
        yield
    except UnreadableError:
        raise
    except (ValueError, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise UnreadableError(place, one_line(error).removeprefix(f"{place}: "), gone=_is_gone(error)) from error


def _is_gone(error: ValueError | OSError) -> bool:
    if isinstance(error, ImageError):
        return error.kind == UNREADABLE
    return isinstance(error, OSError) and not isinstance(error, TooLargeError)


def too_many(line: str, last: UnreadableError) -> ValueError | OSError:
    """What to raise where so many pictures cannot be read that no single one is to blame. Where files are gone or
    refused, a disk is not mounted or access was withdrawn, as a rule, and that may pass: an OSError."""
    return OSError(line) if last.gone else ValueError(line)


class LeftOut:
    """What the sampler of one process could not read since somebody last asked.

    It decides nothing but whether training ends; which picture stands in for which is no matter of what was read
    before, so that a resumed run draws as an undisturbed one.
    """

    def __init__(self) -> None:
        self._untold: dict[str, str] = {}
        self._failed: dict[str, deque[bool]] = defaultdict(partial(deque, maxlen=LAST))

    def note(self, source: str, failure: UnreadableError | None) -> None:
        """Count a picture of a source, read or not. Raises `too_many` (one line) beyond the bound."""
        failed = self._failed[source]
        failed.append(failure is not None)
        if failure is None:
            return
        self._untold[failure.place] = failure.reason
        if len(failed) == LAST and sum(failed) > LAST // 2:
            line = f"{source}: {sum(failed)} of the last {LAST} pictures could not be read; the last was {failure}"
            raise too_many(line, failure)

    def take(self) -> dict[str, str]:
        """Why each picture was left out, by its place, and forget it."""
        taken, self._untold = self._untold, {}
        return taken
