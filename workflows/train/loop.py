"""The training loop of one process: batches in, weights out; stops and resumes anywhere with the same result."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from sam_core.model.sam import Sam
from sam_core.training.interactive import StepLosses, train_rounds
from sam_core.training.optimizer import adamw, set_learning_rate, update_average
from sam_core.training.presets import TrainConfig
from sam_core.training.targets import TrainBatch


@dataclass(slots=True)
class TrainState:
    """Everything a resumed run needs: weights, their average, optimizer and the next step."""

    model: Sam
    average: Sam
    optimizer: torch.optim.AdamW
    step: int = 0

    @classmethod
    def fresh(cls, model: Sam, config: TrainConfig) -> TrainState:
        """State before the first step of a model."""
        optimizer = adamw(
            model,
            depth=len(model.image_encoder.blocks),
            layer_decay=config.layer_decay,
            weight_decay=config.weight_decay,
        )
        return cls(model, copy.deepcopy(model), optimizer)

    def save(self, path: Path) -> None:
        """Write atomically."""
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            },
            partial,
        )
        partial.rename(path)

    def load(self, path: Path) -> None:
        """Continue from `save`."""
        saved = torch.load(path, weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What one step did."""

    step: int
    losses: StepLosses
    gradient_norm: float
    seconds: float


def train(
    state: TrainState, batches: Iterable[TrainBatch], config: TrainConfig, report: Callable[[Progress], None]
) -> None:
    """Run one optimizer step per batch, beginning at `state.step`.

    Raises:
        ValueError: a loss or gradient is not finite; the state is the one before that step.
    """
    for batch in batches:
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + state.step)
        set_learning_rate(state.optimizer, config.learning_rate.at(state.step))
        losses = train_rounds(state.model, batch, config, generator)
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.grad_clip or torch.inf)
        if not torch.isfinite(norm):
            raise ValueError(f"step {state.step}: the gradient is not finite (batch of {len(batch.masks)} masks)")
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if config.average:
            update_average(state.average, state.model, min(config.average, (1 + state.step) / (10 + state.step)))
        state.step += 1
        report(Progress(state.step, losses, norm.item(), time.perf_counter() - started))
