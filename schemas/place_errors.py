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
    return re.sub(r"^[\w.]+: ", "", said_last(message)) if "Traceback" in message else message


def said_last(message: str) -> str:
    """The last line of a traceback, behind which DuckDB may quote the statement that it was at."""
    return message.partition("\n\nLINE ")[0].strip().splitlines()[-1]
