from __future__ import annotations

import io

import pytest

from workflows import progress as module
from workflows.progress import Progress


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
        for _ in range(25):
            clock.now += 1
            progress.add(images=2, masks=10, errors=1)
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("masks: 0 of 1,000 images")
    assert lines[1] == "masks: 20 of 1,000 images, 100 masks, 10 errors, 2 images/s, 8m 10s left"
    assert lines[-1] == "masks: 50 of 1,000 images, 250 masks, 25 errors, 2 images/s, 7m 55s left"
    assert len(lines) == 4
    assert "\x1b" not in log.getvalue()


def test_a_terminal_gets_one_live_line() -> None:
    terminal = Terminal()
    with Progress("masks", 10, stream=terminal) as progress:
        progress.add(images=4, masks=7)
    assert "4/10" in terminal.getvalue()
    assert "7 masks" in terminal.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0s"), (59.4, "59s"), (200, "3m 20s"), (18_720, "5h 12m")])
def test_durations(clock: Clock, seconds: float, text: str) -> None:
    progress = Progress("x", 2, stream=io.StringIO())
    clock.now = seconds
    progress.add(images=1)
    assert progress.line().endswith(f"{text} left")
