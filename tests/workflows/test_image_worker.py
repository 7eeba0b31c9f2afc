"""The time limit of an image."""

from __future__ import annotations

import pytest

from workflows import image_worker
from workflows.image_worker import time_limit


def test_the_clock_begins_anew_with_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for those that take less than a fiftieth of it."""
    clock, begun = [100.0], []
    monkeypatch.setattr(image_worker.time, "monotonic", lambda: clock[-1])
    begin = lambda seconds, **_: begun.append((clock[-1], seconds))  # noqa: E731
    monkeypatch.setattr(image_worker.faulthandler, "dump_traceback_later", begin)
    with time_limit(50.0) as restart:
        for now in (100.5, 101.0, 101.5, 140.0, 189.0):
            clock.append(now)
            restart()
    assert begun == [(100.0, 50.0), (101.0, 50.0), (140.0, 50.0), (189.0, 50.0)]
