"""Failures in one line each, whatever stands in the names of files."""

import pytest

from workflows.failures import one_line, tell_left_out, visible


def test_what_moves_a_cursor_is_shown_as_an_escape() -> None:
    assert visible("a\x1b[2J\nb\udc80 \u00e9") == "a\\x1b[2J\\nb\\udc80 \u00e9"


def test_what_is_left_out_takes_a_line_each_and_of_many_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    tell_left_out(["red\x1b[31m.png: no picture", *(f"{number}.png" for number in range(1, 1030))])
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "left out: red\\x1b[31m.png: no picture"
    assert others == [*(f"left out: {number}.png" for number in range(1, 20)), "... and 1,010 more"]


def test_a_failure_of_the_operating_system_says_which_file_and_why() -> None:
    assert one_line(FileNotFoundError(2, "No such file or directory", "a.png")) == "a.png: No such file or directory"
    assert one_line(ValueError("two\n lines")) == "two lines"
    assert one_line(ValueError()) == "ValueError"
