"""Several workers as one: what they add up, and how the gradients of their encoders are joined.

The encoder, 99 % of the work, is walked back once per part of a step, which DistributedDataParallel and FSDP2 know how
to overlap with communication. The decoder is walked back every round; its gradients are small and joined once.

What shards is imported where it is used: it takes two seconds of every process, and most trainings do not shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from sam_core.model.image_encoder import ImageFeatures
from sam_core.model.sam import Sam

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class Team:
    """One of `workers` processes that train together; `torch.distributed` is up when they are several."""

    rank: int = 0
    workers: int = 1
    device: str = "cpu"

    def sum(self, *values: float) -> list[float]:
        """Sums over all workers."""
        if self.workers == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def first_message(self, message: str) -> str:
        """The first worker's message that is not empty."""
        if self.workers == 1:
            return message
        return next(filter(None, self._gathered(message)), "")

    def union(self, known: Mapping[str, str]) -> dict[str, str]:
        """What any worker knows."""
        if self.workers == 1:
            return dict(known)
        return {name: value for each in self._gathered(dict(known)) for name, value in each.items()}

    def _gathered(self, said: Said) -> list[Said]:
        """What each worker says, small objects, in the order of ranks."""
        all_said = [said] * self.workers
        dist.all_gather_object(all_said, said)
        return all_said


@dataclass(frozen=True, slots=True)
class TeamEncoder:
    """The image encoder as a step calls it; `syncing(last)` is the context of a part of a step."""

    forward: Callable[[Tensor], ImageFeatures]
    syncing: Callable[[bool], AbstractContextManager[None]]

    def __call__(self, images: Tensor) -> ImageFeatures:
        return self.forward(images)


def shard(model: Sam, team: Team) -> None:
    """Split the encoder's parameters over the workers (FSDP2), block by block."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(team.device).type, (team.workers,))
    for block in encoder_blocks(model):
        fully_shard(block, mesh=mesh)
    # What is in no block would stay whole after the way forward, and for good where a frozen encoder has no way back.
    fully_shard(model.image_encoder, mesh=mesh, reshard_after_forward=True)


def join_encoder(model: Sam, team: Team, *, sharded: bool) -> TeamEncoder:
    """The encoder whose gradients become the mean over workers at the last part of a step."""
    encoder = model.image_encoder
    if sharded:
        return TeamEncoder(encoder, partial(_sharded_sync, encoder))
    if team.workers == 1 or not any(p.requires_grad for p in encoder.parameters()):
        return TeamEncoder(encoder, lambda _: nullcontext())
    joined = DistributedDataParallel(encoder, gradient_as_bucket_view=True)
    return TeamEncoder(joined, lambda last: nullcontext() if last else joined.no_sync())


def join_decoder(model: Sam, team: Team) -> None:
    """Replace the gradients of all that is not the image encoder by their mean over workers."""
    if team.workers == 1:
        return
    parameters = [p for name, p in model.named_parameters() if not name.startswith("image_encoder.")]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= team.workers
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float) -> float:
    """The norm of all gradients, sharded and whole ones, which are scaled so that it is at most `limit` (0: any)."""
    learning = [p for p in parameters if p.grad is not None]
    groups = [[p for p in learning if is_sharded(p) is kind] for kind in (False, True)]
    gradients = ([p.grad for p in group if p.grad is not None] for group in groups)
    norms = [whole(torch.nn.utils.get_total_norm(group)) for group in gradients if group]
    norm = norms[0] if len(norms) == 1 else torch.stack(norms).norm()
    if limit:
        for group in filter(None, groups):
            torch.nn.utils.clip_grads_with_norm_(group, limit, norm)
    return float(norm)


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether each worker has a part of it: a DTensor, known by the method that no other tensor has."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """A tensor gathered from all workers, who must ask together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def spread_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as `like` is kept: on its device, sharded as it is."""
    if is_sharded(like):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value.to(like.device)


def checkpoint_activations(model: Sam) -> None:
    """Forget what happens inside each encoder block and compute it again on the way back: less memory, more work."""
    for block in encoder_blocks(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def encoder_blocks(model: Sam) -> Iterator[nn.Module]:
    """The transformer blocks of an encoder (of TinyViT, of all its stages)."""
    encoder: Any = model.image_encoder
    stages = [encoder] if hasattr(encoder, "blocks") else encoder.layers
    return (block for stage in stages for block in stage.blocks)


class _sharded_sync:  # noqa: N801 - a context manager, used as a function
    """Add gradients up locally until the last part."""

    def __init__(self, encoder: nn.Module, last: bool) -> None:
        self._encoder: Any = encoder  # which FSDP2 gave methods
        self._last = last

    def __enter__(self) -> None:
        self._encoder.set_requires_gradient_sync(self._last)

    def __exit__(self, *_: object) -> None: ...
