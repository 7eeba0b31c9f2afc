"""Errors of stores that say which object they speak of, which stores do not, and that say it without a traceback."""

import re
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def naming(place: str) -> Iterator[None]:
    """An OSError from within names the place, where it does not already."""
    try:
        yield
    except OSError as error:
        if place in str(error):
            raise
        raise type(error)(f"{place}: {error}") from error


def without_traceback(message: str) -> str:
    """What was said in the end, where a message is a Python traceback or has one in it: DuckDB and Arrow hand on what a
    file system in Python raises so."""
    return re.sub(r"^[\w.]+: ", "", message.strip().splitlines()[-1]) if "Traceback" in message else message
