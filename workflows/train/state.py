"""Everything a resumed run needs, as tensors by name: the same file for one worker or many, sharded or not."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sam_core.model.sam import Sam
from sam_core.training.config import TrainConfig
from sam_core.training.optimizer import adamw
from workflows.train.team import Team, encoder_blocks, shard, spread_like, whole


@dataclass(slots=True)
class TrainState:
    """Weights, their running average (the model itself where none is kept), optimizer and the next step."""

    model: Sam
    average: Sam
    optimizer: torch.optim.AdamW
    step: int = 0

    @classmethod
    def fresh(cls, model: Sam, config: TrainConfig, team: Team | None = None, *, sharded: bool = False) -> TrainState:
        """State before the first step of a model; all workers must call it together when it is sharded."""
        average = copy.deepcopy(model) if config.average else model
        if sharded and team:
            for each in {id(m): m for m in (model, average)}.values():
                shard(each, team)
        optimizer = adamw(
            model,
            depth=len(list(encoder_blocks(model))),
            layer_decay=config.layer_decay,
            weight_decay=config.weight_decay,
        )
        return cls(model, average, optimizer)

    def tensors(self, *, kept: bool = True) -> dict[str, Any]:
        """Everything, gathered on the CPU; all workers must ask together. One that does not want it kept takes part in
        the gathering and gets None for every tensor: with a GPU for each, copies would fill the machine they share."""
        return {
            "step": self.step,
            "model": _gathered(self.model.state_dict(), kept=kept),
            "average": _gathered(self.average.state_dict(), kept=kept) if self.average is not self.model else {},
            "optimizer": {
                name: _gathered(self.optimizer.state[parameter], kept=kept)
                for name, parameter in self.model.named_parameters()
                if parameter in self.optimizer.state
            },
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from what `tensors` gave, with any number of workers."""
        _load(self.model, saved["model"])
        if self.average is not self.model:
            _load(self.average, saved["average"])
        for name, parameter in self.model.named_parameters():
            if found := saved["optimizer"].get(name):
                self.optimizer.state[parameter] = {
                    key: value if value.ndim == 0 else spread_like(value, parameter) for key, value in found.items()
                }
        self.step = saved["step"]


def to_bytes(tensors: dict[str, Any]) -> bytes:
    """As torch writes it; read with `weights_only`."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def from_bytes(data: bytes) -> dict[str, Any]:
    """The inverse; nothing but tensors, names and numbers is unpickled."""
    loaded: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return loaded


def _gathered(state: dict[str, Tensor], *, kept: bool) -> dict[str, Tensor | None]:
    gathered = ((name, whole(tensor)) for name, tensor in state.items())
    return {name: tensor.cpu() if kept else None for name, tensor in gathered}


@torch.no_grad()
def _load(model: Sam, state: dict[str, Tensor]) -> None:
    own = model.state_dict()
    for name, tensor in own.items():
        tensor.copy_(spread_like(state[name], tensor))
