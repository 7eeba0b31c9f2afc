"""Errors of stores that say which object they speak of, which stores do not."""

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
