from __future__ import annotations

import io
from datetime import datetime, timedelta

import pytest

from workflows import progress as module
from workflows.progress import Progress, most_at_once, plural, seconds_covered


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return clock


def test_a_log_gets_plain_lines_now_and_then(clock: Clock) -> None:
    log = io.StringIO()
    with Progress("masks", 1000, stream=log) as progress:
        clock.now = 5.0  # until workers have started nothing happens
        for _ in range(25):
            clock.now += 1
            progress.add(images=2, masks=10, errors=1)
    assert log.getvalue().splitlines() == [
        "masks: 0 of 1,000 images, 0 errors",
        "masks: 10 of 1,000 images, 50 masks, 5 errors, 2 images/s, 8m 15s left",
        "masks: 30 of 1,000 images, 150 masks, 15 errors, 2 images/s, 8m 05s left",
        "masks: 50 of 1,000 images, 250 masks, 25 errors, 2 images/s, 7m 55s left",
        "masks: 50 of 1,000 images, 250 masks, 25 errors, 2 images/s, 7m 55s left",
    ]


def test_in_the_end_the_rate_is_that_of_all_the_time(clock: Clock) -> None:
    """Two batches that arrive together after ten seconds of starting are not fast."""
    progress = Progress("embedding", 20, stream=io.StringIO())
    clock.now = 10.0
    progress.add(images=16)
    clock.now = 10.1
    progress.add(images=4)
    assert progress.line() == "embedding: 20 of 20 images, 0 errors, 1.98 images/s, 0s left"


def test_work_that_comes_in_one_piece_has_a_rate_too(clock: Clock) -> None:
    progress = Progress("reading", 9, stream=io.StringIO())
    clock.now = 3.0
    progress.add(images=9)
    assert progress.line() == "reading: 9 of 9 images, 0 errors, 3 images/s, 0s left"


def test_a_terminal_gets_one_live_line() -> None:
    terminal = Terminal()
    with Progress("masks", 10, stream=terminal) as progress:
        progress.add(images=4, masks=7)
    assert "4/10, 7 masks, 0 errors" in terminal.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0s"), (59.4, "59s"), (200, "3m 20s"), (18_720, "5h 12m")])
def test_durations(clock: Clock, seconds: float, text: str) -> None:
    progress = Progress("x", 3, stream=io.StringIO())
    progress.add(images=1)
    clock.now = seconds
    progress.add(images=1)
    assert progress.line().endswith(f"{text} left")


def test_work_that_grew_meanwhile_has_no_time_left() -> None:
    progress = Progress("relating", 2, stream=io.StringIO())
    progress.add(images=1)
    progress.add(images=9)
    assert progress.line().endswith(" 0s left")


def test_work_whose_size_nobody_knows() -> None:
    stream = io.StringIO()
    with Progress("protecting", 0, stream=stream) as progress:
        progress.add(images=3)
    first, last = stream.getvalue().splitlines()
    assert first == "protecting: 0 images, 0 errors"
    assert last.startswith("protecting: 3 images, 0 errors")
    assert "left" not in last


def test_spans_side_by_side_count_once_and_gaps_do_not() -> None:
    noon, seconds = datetime(2026, 1, 31, 12), ((100, 103), (0, 10), (2, 4), (5, 9), (200, 200))
    spans = [(noon + timedelta(seconds=begun), noon + timedelta(seconds=ended)) for begun, ended in seconds]
    assert (seconds_covered(spans), most_at_once(spans)) == (13, 2)
    assert (seconds_covered(()), most_at_once(())) == (0, 0)


def test_one_thing_is_not_several() -> None:
    assert plural(1, "mask") == "1 mask"
    assert plural(1200, "mask") == "1,200 masks"
