"""The live line of training."""

from __future__ import annotations

import io
from dataclasses import replace

from workflows.train.metrics import StepMetrics
from workflows.train.progress import NAMED, TrainingProgress


def step(number: int) -> StepMetrics:
    return StepMetrics(number, {"focal": 0.01, "dice": 0.25, "last_iou": 0.5}, 8, 1e-3, 1.0, 0.1)


def test_the_line_tells_steps_and_losses_and_follows_a_restart() -> None:
    progress = TrainingProgress(10, 4, stream=io.StringIO())
    assert progress.line() == "training: step 0 of 10, starting"
    progress.step(step(4))
    progress.step(step(5))
    assert progress.line().startswith("training: step 5 of 10, mIoU 0.5, dice 0.25, focal 0.01")
    progress.step(step(3))  # a worker died and began again at its checkpoint
    assert progress.line().startswith("training: step 3 of 10")


def test_pictures_left_out_are_named_once_and_then_counted() -> None:
    stream = io.StringIO()
    progress = TrainingProgress(10, 4, stream=stream)
    for number in (1, 2, 1):
        progress.step(replace(step(number), left_out={"a.png": "the file has no bytes"}))
    assert stream.getvalue() == "left out: a.png: the file has no bytes\n"
    assert ", 1 picture left out" in progress.line()
    progress.step(replace(step(3), left_out={f"{n}.png": "gone" for n in range(NAMED)}))
    assert len(stream.getvalue().splitlines()) == NAMED
    assert f", {NAMED + 1} pictures left out" in progress.line()


def test_of_many_pictures_the_first_are_named() -> None:
    """It was whichever a set gave, other ones each time."""
    stream = io.StringIO()
    TrainingProgress(10, 4, stream=stream).step(
        replace(step(1), left_out={f"{n}.png": "gone" for n in range(NAMED + 20)})
    )
    assert stream.getvalue().splitlines() == [f"left out: {n}.png: gone" for n in range(NAMED)]
