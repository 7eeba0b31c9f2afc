"""How long a store is waited for: time-outs, attempts, and growing random pauses between them."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

Result = TypeVar("Result")

VARIABLE = "SAM_ENGINE_STORE_PATIENCE"
_ABOVE_0 = ("connect_seconds", "read_seconds", "attempts", "slowest_bytes_per_second")


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits for one request to a store, each finite, so that no request waits for ever."""

    connect_seconds: float = 10.0
    """Until a connection stands."""
    read_seconds: float = 60.0
    """Between two pieces of an answer."""
    attempts: int = 6
    """Requests in all before a failure that passes is taken for good."""
    longest_pause_seconds: float = 20.0
    """Pauses between attempts are drawn from 0 to 1, 2, 4, ... seconds, and never from more than this."""
    settle_seconds: float = 1.0
    """How long after a write its readers wait, on stores without conditional writes, to learn who wrote last."""
    slowest_bytes_per_second: float = 16_384.0
    """A body that comes in more slowly, after `read_seconds`, is broken off and asked for again."""

    def __post_init__(self) -> None:
        limits = [getattr(self, field.name) for field in fields(self)]
        if not all(0 <= limit < math.inf for limit in limits) or not all(getattr(self, name) for name in _ABOVE_0):
            raise ValueError(f"every limit must be a finite number, and {', '.join(_ABOVE_0)} above 0")

    def body_seconds(self, size: int) -> float:
        """How long the body of an answer of that many bytes may take."""
        return self.read_seconds + size / self.slowest_bytes_per_second

    def keep_trying(
        self,
        request: Callable[[], Result],
        passes: Callable[[Exception], bool],
        *,
        wait: Callable[[float], None] = time.sleep,
    ) -> Result:
        """The answer to a request, made again while its failure is one that `passes`; then that failure is raised."""
        for attempt in range(self.attempts - 1):
            try:
                return request()
            except Exception as error:
                if not passes(error):
                    raise
            wait(random.uniform(0, min(self.longest_pause_seconds, 2.0**attempt)))
        return request()


def patience_of(environment: Mapping[str, str] = os.environ) -> Patience:
    """The defaults, changed by a variable such as `SAM_ENGINE_STORE_PATIENCE="attempts=3 read_seconds=5"`.

    Raises ValueError (one line) when the variable says something else than that.
    """
    text = environment.get(VARIABLE, "")
    known = {field.name: int if field.name == "attempts" else float for field in fields(Patience)}
    try:
        pairs = dict(word.split("=") for word in text.split())
        limits = {name: known[name](value) for name, value in pairs.items()}
    except (ValueError, KeyError) as error:
        raise ValueError(f"{VARIABLE}={text!r}: use NAME=NUMBER with names among {', '.join(known)}") from error
    try:
        return Patience(**limits)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{VARIABLE}={text!r}: {error}") from error
