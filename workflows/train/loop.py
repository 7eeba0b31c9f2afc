"""The training loop of one worker: batches in, weights out; stops and resumes anywhere with the same result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sam_core.model.sam import Sam
from sam_core.training.config import TrainConfig
from sam_core.training.distillation import distil
from sam_core.training.flops import Workload
from sam_core.training.interactive import train_rounds
from sam_core.training.optimizer import set_learning_rate, update_average
from sam_core.training.targets import TrainBatch
from workflows.failures import one_line
from workflows.train.metrics import StepMetrics
from workflows.train.state import TrainState
from workflows.train.team import Team, TeamEncoder, clip_gradients, join_decoder

Parts = list[TrainBatch]
"""One worker's share of a step, in the parts whose gradients are added up."""


@dataclass(frozen=True, slots=True)
class Made:
    """One worker's share of a step as it was made. left_out: the pictures that could not be read for it, by their
    places, each with the reason."""

    parts: Parts
    left_out: Mapping[str, str] = field(default_factory=dict)


class TrainingError(ValueError):
    """Training cannot go on; one line that says at which step and why. The last checkpoint is whole."""


class NoRoomError(ValueError):
    """The cluster or one of its machines, as it is now, has no room for the workers."""


class MachineError(TrainingError):
    """The workers died too often without a word, or a store, disk or machine failed them: no fault of data or
    configuration that is known, so the same command may go on later."""


@dataclass(frozen=True, slots=True)
class Trainer:
    """One worker's means: `teacher` for distillation; `describe` names sample n for messages; `work` to say how well
    the machines are used."""

    config: TrainConfig
    team: Team
    encoder: TeamEncoder
    describe: Callable[[int], str]
    teacher: Sam | None = None
    work: Workload | None = None

    def run(self, state: TrainState, steps: Iterator[Made], report: Callable[[StepMetrics], None]) -> None:
        """One optimizer step per item, beginning at `state.step`.

        Raises TrainingError, in all workers at once, when a batch cannot be read (MachineError where a store or machine
        is at fault) or a gradient is not finite: the state is then the one before that step.
        """
        with attention_kernels():
            while (made := self._next(state, steps)) is not None:
                report(replace(self.step(state, made.parts), left_out=made.left_out))

    def step(self, state: TrainState, parts: Parts) -> StepMetrics:
        """Take one step. Raises TrainingError when its gradient is not finite; the weights then stay as they are."""
        started = time.perf_counter()
        rate = self.config.learning_rate.at(state.step)
        set_learning_rate(state.optimizer, rate)
        own = [self._size(part) for part in parts]
        (total,) = self.team.sum(sum(own))
        values = self._gradients(state, parts, own, total)
        join_decoder(state.model, self.team)
        norm = clip_gradients(state.model.parameters(), self.config.grad_clip)
        if not math.isfinite(norm):
            state.optimizer.zero_grad(set_to_none=True)
            raise TrainingError(self._not_finite(state.step))
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if self.config.average:
            update_average(state.average, state.model, min(self.config.average, (1 + state.step) / (10 + state.step)))
        state.step += 1
        seconds = time.perf_counter() - started
        used = self.work.utilisation(total, seconds) if self.work else 0.0
        return StepMetrics(state.step, values, int(total), rate, norm, seconds, used)

    def _next(self, state: TrainState, steps: Iterator[Made]) -> Made | None:
        """The next share, None at the end; what one worker cannot make stops all of them, what it left out all know."""
        made, failure, passing = None, "", False
        try:
            made = next(steps, None)
        except (ValueError, OSError) as error:
            failure, passing = one_line(error), isinstance(error, OSError)
        failed, passes, some = self.team.sum(bool(failure), passing, bool(made and made.left_out))
        if failed:
            kind = MachineError if passes else TrainingError
            raise kind(f"step {state.step}: {self.team.first_message(failure)}")
        return replace(made, left_out=self.team.union(made.left_out)) if made and some else made

    def _size(self, part: TrainBatch) -> int:
        """What the loss is averaged over: masks, or images where there are no masks."""
        return len(part.images) if self.teacher else len(part.masks)

    def _gradients(self, state: TrainState, parts: Parts, own: list[int], total: float) -> Mapping[str, float]:
        """Gradients of the mean loss over all workers' masks; means of the losses, over all workers too.

        Joining takes the mean over workers, hence the factor `workers`.
        """
        found = []
        for number, (part, size) in enumerate(zip(parts, own, strict=True)):
            torch.manual_seed(self._seed(state.step, number))
            weight = self.team.workers * size / total
            with self.encoder.syncing(number == len(parts) - 1):
                found.append(self._losses(state, part.to(self.team.device), weight))
        mine = {name: sum(f[name] * n for f, n in zip(found, own, strict=True)) for name in found[0]}
        sums = self.team.sum(*mine.values())
        return {name: value / total for name, value in zip(mine, sums, strict=True)}

    def _losses(self, state: TrainState, part: TrainBatch, weight: float) -> Mapping[str, float]:
        if self.teacher:
            error = distil(state.model, self.teacher, part, self.config, encoder=self.encoder, weight=weight)
            return {"embedding_error": error}
        losses = train_rounds(state.model, part, self.config, state.step, encoder=self.encoder, weight=weight)
        return asdict(losses)

    def _seed(self, step: int, part: int) -> int:
        """Of drop path, which is drawn per worker."""
        return hash((self.config.seed, step, part, self.team.rank)) % 2**63

    def _not_finite(self, step: int) -> str:
        first = step * self.config.images
        shown = ", ".join(self.describe(number) for number in range(first, first + min(4, self.config.images)))
        more = ", ..." if self.config.images > 4 else ""
        return (
            f"step {step}: the loss is not finite, for images {first} to {first + self.config.images - 1} of the run "
            f"({shown}{more}); the weights before this step are kept; try a lower learning rate or gradient clipping"
        )


def attention_kernels() -> AbstractContextManager[None]:
    """Any but cuDNN's, whose gradients are not finite for some lengths and small sums of exponentials
    (pytorch/pytorch#196678)."""
    kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    held: AbstractContextManager[None] = sdpa_kernel(kernels)
    return held
