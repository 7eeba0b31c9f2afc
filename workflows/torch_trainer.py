"""Ray Train's trainer, which leaves Ctrl-C alone and starts no process for Ray Data."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer


class RayTrainer(TorchTrainer):
    """Ctrl-C raises KeyboardInterrupt here as everywhere.

    Ray's own handler ends the process with status 0, as if all were done, and stays when the training is over: whatever
    the process does next could not be interrupted.
    """

    _controller: Any = None

    def give_up(self) -> None:
        """End all workers now, from another thread; `fit` raises. One that is not in the main thread goes on."""
        if self._controller is not None:
            self._controller.abort.remote()

    def _register_sigint_handler(self, controller: object) -> None:
        """Note who leads the workers, in the place of what Ray does."""
        self._controller = controller

    def _create_default_callbacks(self) -> list[Any]:
        """Without the one that starts an actor for Ray Data's sets, which nothing here reads: a process of 3 s of CPU
        time at every start of the workers, whom it also keeps waiting."""
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        return [each for each in callbacks if type(each).__name__ != "DatasetsCallback"]
