"""Ray Train's trainer, which leaves Ctrl-C alone."""

from __future__ import annotations

from ray.train.torch import TorchTrainer


class RayTrainer(TorchTrainer):
    """Ctrl-C raises KeyboardInterrupt here as everywhere.

    Ray's own handler ends the process with status 0, as if all were done, and stays when the training is over: whatever
    the process does next could not be interrupted.
    """

    def _register_sigint_handler(self, controller: object) -> None:
        """Nothing, in the place of what Ray does."""
