"""The live line of training."""

from __future__ import annotations

from typing import TextIO

from workflows.progress import Progress, duration
from workflows.train.metrics import StepMetrics

NAMED = 20
"""Pictures left out that are named; further ones are counted."""
_SHOWN = {"last_iou": "mIoU", "dice": "dice", "focal": "focal", "embedding_error": "embedding error"}


class TrainingProgress(Progress):
    """As for images, but the total is in steps and the details are losses."""

    def __init__(self, steps: int, images_per_step: int, *, stream: TextIO | None = None) -> None:
        super().__init__("training", steps, stream=stream)
        self._per_step = images_per_step
        self._last: StepMetrics | None = None
        self._left_out: set[str] = set()

    def step(self, progress: StepMetrics) -> None:
        """Show a step; a resumed run begins where it stopped, a restarted one goes back. What could not be read is told
        once."""
        self._last = progress
        for place in [each for each in progress.left_out if each not in self._left_out]:
            self._left_out.add(place)
            if len(self._left_out) <= NAMED:
                self.say(f"left out: {place}: {progress.left_out[place]}")
        self.add(images=progress.step - self._images)

    def line(self) -> str:
        """The state in words."""
        return f"training: step {self._images:,} of {self._total:,}, {self._details()}"

    def _details(self) -> str:
        if self._last is None:
            return "starting"
        values = self._last.values
        shown = ", ".join(f"{name} {values[key]:.3g}" for key, name in _SHOWN.items() if key in values)
        if left_out := len(self._left_out):
            shown += f", {left_out:,} picture{'s' * (left_out > 1)} left out"
        rate = self._rate()
        if not rate > 0:
            return shown
        left = duration((self._total - self._images) / rate)
        return f"{shown}, {rate * self._per_step:.3g} images/s, {left} left"
