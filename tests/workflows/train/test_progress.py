"""The live line of training."""

from __future__ import annotations

import io

from workflows.train.metrics import Progress
from workflows.train.progress import TrainingProgress


def step(number: int) -> Progress:
    return Progress(number, {"focal": 0.01, "dice": 0.25, "last_iou": 0.5}, 8, 1e-3, 1.0, 0.1)


def test_the_line_tells_steps_and_losses_and_follows_a_restart() -> None:
    progress = TrainingProgress(10, 4, stream=io.StringIO())
    assert progress.line() == "training: step 0 of 10, starting"
    progress.step(step(4))
    progress.step(step(5))
    assert progress.line().startswith("training: step 5 of 10, mIoU 0.5, dice 0.25, focal 0.01")
    progress.step(step(3))  # a worker died and began again at its checkpoint
    assert progress.line().startswith("training: step 3 of 10")
