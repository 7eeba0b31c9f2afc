"""Errors of stores with the name of the object."""

import pytest

from schemas.place_errors import naming, without_traceback


@pytest.mark.parametrize("message", ["AWS Error NO_SUCH_KEY", "bucket/key: AWS Error NO_SUCH_KEY"])
def test_the_place_is_named_once(message: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"^bucket/key: AWS Error NO_SUCH_KEY$"), naming("bucket/key"):
        raise FileNotFoundError(message)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match=r"^no JSON$"), naming("bucket/key"):
        raise ValueError("no JSON")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "IO Error: Traceback (most recent call last):\n  File a.py\n\nworkflows.storage.StoreError: no: bucket\n",
            "no: bucket",
        ),
        (
            "Traceback (most recent call last):\n  File a.py\nFileNotFoundError: gone: a\n\nLINE 1: FROM f()\n    ^^^",
            "gone: a",
        ),
        ("two\nlines", "two\nlines"),
    ],
)
def test_of_a_traceback_what_was_said_in_the_end(message: str, said: str) -> None:
    assert without_traceback(message) == said
