"""What workers tell while the command waits for them: how far they are, and why they stopped."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from queue import Empty
from typing import Self

from ray.util.queue import Queue

from workflows.train.progress import TrainingProgress
from workflows.train.worker import Told

SECONDS_BETWEEN_LOOKS = 0.5


class Listener:
    """Context manager; hears what the workers tell while the main thread waits for them.

    Left by Ctrl-C or SIGTERM it hears no more: workers that know nothing of it go on telling, each step before the last
    one was listened to.

    give_up: ends them where one has failed and the others wait for it. Ray Train would start all of them anew first,
    some 20 s of CPU time for each to hear that it is over.
    """

    def __init__(self, told: Queue, progress: TrainingProgress, give_up: Callable[[], None]) -> None:
        self._told, self._progress, self._give_up = told, progress, give_up
        self._failure: Told | None = None
        self._over, self._left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._left.set()
        self.failure()

    def failure(self) -> Told | None:
        """Why training stopped, once everything that was told is heard; None when nothing was wrong."""
        self._over.set()
        self._thread.join()
        return self._failure

    def _listen(self) -> None:
        while not self._left.is_set():
            over = self._over.is_set()
            try:
                said: Told = pickle.loads(self._told.get(timeout=SECONDS_BETWEEN_LOOKS))
            except Empty:
                if over:
                    return
                continue
            self._note(said)

    def _note(self, said: Told) -> None:
        if said.failure and not self._failure:
            self._failure = said
            if said.alone:
                self._give_up()
        if said.advice:
            self._progress.say(said.advice)
        if said.progress:
            self._progress.step(said.progress)
