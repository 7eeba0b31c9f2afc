"""How far long work has got: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Work done so far in this process, in images, masks and images with errors."""

    images: int = 0
    masks: int = 0
    errors: int = 0

    def plus(self, *, images: int, masks: int = 0, errors: int = 0) -> Tally:
        return replace(self, images=self.images + images, masks=self.masks + masks, errors=self.errors + errors)


class Progress:
    """Context manager; call `add` as work is done. Writes to standard error: standard output is for results."""

    def __init__(self, what: str, total: int, *, stream: TextIO | None = None) -> None:
        self._what = what
        self._total = total
        self._stream = stream or sys.stderr
        self._tally = Tally()
        self._live: Live | None = None
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        self._started = self._last_line = time.monotonic()
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
        self._tally = self._tally.plus(images=images, masks=masks, errors=errors)
        if self._live:
            self._live.update(self._view())
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print_line()

    def line(self) -> str:
        """The state in words."""
        done, total = self._tally.images, self._total
        return f"{self._what}: {done:,} of {total:,} images, {self._rest()}"

    def _rest(self) -> str:
        tally, seconds = self._tally, time.monotonic() - self._started
        rate = tally.images / seconds if seconds > 0 else 0.0
        left = _duration((self._total - tally.images) / rate) if rate > 0 else "unknown"
        masks = f"{tally.masks:,} masks, " if tally.masks else ""
        return f"{masks}{tally.errors:,} errors, {rate:.3g} images/s, {left} left"

    def _view(self) -> Table:
        view = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, self._total), completed=self._tally.images, width=30)
        view.add_row(self._what, bar, f"{self._tally.images:,}/{self._total:,}", self._rest())
        return view

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        print(self.line(), file=self._stream, flush=True)


def _duration(seconds: float) -> str:
    """Seconds as 42s, 3m 20s or 5h 12m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {rest:02d}s" if minutes else f"{rest}s"
