"""Failures in one line each, whatever stands in the names of files."""

import pytest

from workflows.failures import last_line, one_line, tell_left_out, visible


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


def test_of_rows_that_break_off_the_cause_is_said() -> None:
    """By Arrow, in whose stream DuckDB's error of a file system in Python comes."""
    said = (
        'Invalid Error: Traceback (most recent call last):\n\n  File "pyarrow/error.pxi", line 92, in check_status\n\n'
    )
    assert one_line(OSError(f"{said}OSError: When reading part-1: AWS Error SLOW_DOWN")) == (
        "When reading part-1: AWS Error SLOW_DOWN"
    )


def test_of_what_ray_tells_the_cause_is_said() -> None:
    """Beginnings of its stories: the last line of the second is "The actor never ran", of the third a bit of advice."""
    died = "The actor died unexpectedly before finishing this task.\n\tclass_name: A\nIts worker process has died."
    assert last_line(RuntimeError(died)) == "Its worker process has died."
    never = "The actor never ran - it was cancelled before it started running."
    assert last_line(RuntimeError(f"{died}\n{never}")) == "Its worker process has died."
    memory = "1 worker(s) were killed due to the node running low on memory. It was 22GB used / 23GB limit"
    advice = "Refer to the documentation on how to address the out of memory issue"
    assert last_line(RuntimeError(f"{memory}\nOOM kill reason: it was.\n\n{advice}")) == memory
    assert last_line(RuntimeError()) == "RuntimeError"
