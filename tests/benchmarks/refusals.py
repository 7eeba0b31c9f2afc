"""What a benchmark cannot do it says in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def refusals() -> Iterator[None]:
    """End the program with the message of a ValueError, and no more."""
    try:
        yield
    except ValueError as error:
        sys.exit(str(error))
