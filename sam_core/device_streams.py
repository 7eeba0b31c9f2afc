"""Work on a device beside its main work. On a CPU there is one thing at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Beside:
    """A stream of its own, on which nothing waits for the main one. hurried: goes before that.

    What is made here must be kept until the main stream has done with it: its memory is used again without asking.
    """

    def __init__(self, device: torch.device, *, hurried: bool = False) -> None:
        self._stream = torch.cuda.Stream(device, priority=-1 if hurried else 0) if device.type == "cuda" else None
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))  # which may still be writing the weights

    @contextmanager
    def working(self) -> Iterator[None]:
        """What is asked of the device within the block goes here."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def mark(self) -> Mark:
        """The end of what was asked for so far."""
        return Mark(None if self._stream is None else self._stream.record_event())


class Mark:
    """A moment in the work of a stream."""

    def __init__(self, event: torch.cuda.Event | None) -> None:
        self._event = event

    def passed(self) -> None:
        """What is asked of the device from now on begins after it; the host goes on."""
        if self._event is not None:
            torch.cuda.current_stream().wait_event(self._event)
