"""How far long work has got: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from datetime import datetime
from itertools import accumulate
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

SECONDS_BETWEEN_LINES = 10.0
_BAR_WIDTH = 12


class Progress:
    """Context manager; call `add` as work is done. Writes to standard error: standard output is for results.

    `total` is how many images there will be, 0 where nobody knows.

    The rate is counted from the first finished work on, so that starting workers does not spoil the forecast; in the
    end over all of the time.
    """

    def __init__(self, what: str, total: int, *, stream: TextIO | None = None) -> None:
        self._what = what
        self._total = total
        self._stream = stream or sys.stderr
        self._images = self._masks = self._errors = self._images_at_first = 0
        self._live: Live | None = None
        self._begun = self._clock_start = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._live = Live(self._view(), console=Console(file=self._stream), refresh_per_second=4)
            self._live.start()
        else:
            self._print_line()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._view())
            self._live.stop()
        else:
            self._print_line()

    def add(self, *, images: int, masks: int = 0, errors: int = 0) -> None:
        """Count finished work and show it."""
        if self._images == 0 and images < self._total:
            self._clock_start, self._images_at_first = time.monotonic(), images
        self._images += images
        self._masks += masks
        self._errors += errors
        if self._live:
            self._live.update(self._view())
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print_line()

    def say(self, line: str) -> None:
        """A line that stays, above the live one."""
        if self._live:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._stream, flush=True)

    def line(self) -> str:
        """The state in words."""
        of = f" of {self._total:,}" if self._total else ""
        return f"{self._what}: {self._images:,}{of} images, {self._details()}"

    def _details(self) -> str:
        masks = f"{self._masks:,} masks, " if self._masks else ""
        rate = self._rate()
        if not rate:
            return f"{masks}{self._errors:,} errors"
        if not self._total:
            return f"{masks}{self._errors:,} errors, {rate:.3g} images/s"
        left = duration((self._total - self._images) / rate)
        return f"{masks}{self._errors:,} errors, {rate:.3g} images/s, {left} left"

    def _rate(self) -> float:
        """Images per second; 0 while nothing can be said."""
        counted = self._images - self._images_at_first
        is_over = self._images >= self._total > 0  # then nothing is left to foretell, and the whole time counts
        seconds = time.monotonic() - (self._begun if is_over else self._clock_start)
        return (self._images if is_over else counted) / seconds if seconds > 0 else 0.0

    def _view(self) -> Table:
        view = Table.grid(padding=(0, 1))
        view.add_column(no_wrap=True)
        view.add_column(no_wrap=True)
        view.add_column(no_wrap=True, overflow="ellipsis")
        total = f"{self._total:,}" if self._total else "?"
        bar = ProgressBar(total=max(1, self._total), completed=self._images, width=_BAR_WIDTH)
        view.add_row(self._what, bar, f"{self._images:,}/{total}, {self._details()}")
        return view

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        print(self.line(), file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """Seconds as 42s, 3m 20s or 5h 12m; less than none, as where clocks differ or work grows meanwhile, as 0s."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"


def plural(number: int, thing: str) -> str:
    """1, mask -> 1 mask; 1200, mask -> 1,200 masks."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def seconds_covered(spans: Iterable[tuple[datetime, datetime]]) -> float:
    """How long at least one of the spans, begin and end, lasted: what lies side by side counts once, gaps do not."""
    seconds, reached = 0.0, datetime.min
    for begun, ended in sorted(spans):
        seconds += max(0.0, (ended - max(begun, reached)).total_seconds())
        reached = max(reached, ended)
    return seconds


def most_at_once(spans: Iterable[tuple[datetime, datetime]]) -> int:
    """How many of the spans lie side by side, at most."""
    changes = sorted(change for begun, ended in spans for change in ((begun, 0, 1), (ended, 1, -1)))
    return max(accumulate(change for *_, change in changes), default=0)
