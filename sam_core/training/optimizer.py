"""AdamW with layer-wise learning-rate decay (paper §A), and a running average of the weights."""

from __future__ import annotations

import re
from collections import defaultdict

import torch
from torch import Tensor, nn

_BLOCK = re.compile(r"image_encoder\.blocks\.(\d+)\.")
_STAGE = re.compile(r"image_encoder\.layers\.(\d+)\.")
_LAST_STAGE = 3
_TABLES = ("pos_embed", "rel_pos", "iou_token.", "mask_tokens.", "embed.weight", "embeddings", "attention_biases")
"""What the names of embeddings and position tables have in them; `token_to_image` is none."""


def layer_of(name: str, depth: int) -> int:
    """Depth of a parameter as ViTDet counts it: 0 for the stem, i + 1 for block i, depth + 1 for all that follows.

    TinyViT is counted by stages, its last one being as deep as the last block.
    """
    if match := _BLOCK.match(name):
        return int(match.group(1)) + 1
    if match := _STAGE.match(name):
        return depth - _LAST_STAGE + int(match.group(1))
    stem = name.startswith(("image_encoder.patch_embed", "image_encoder.pos_embed"))
    return 0 if stem else depth + 1


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: matrices and kernels do; norms, biases, embeddings and position tables do not."""
    return parameter.ndim > 1 and not any(part in name for part in _TABLES)


def adamw(model: nn.Module, *, depth: int, layer_decay: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (0.9, 0.999) over groups of equal learning-rate scale and decay.

    Each group carries `scale` = layer_decay ** (layers above it); set `lr` to rate * scale before every step.

    Args:
        model: a Sam.
        depth: number of encoder blocks.
        layer_decay: 1 for none; the paper's 0.8 (0.6 for ViT-B).
        weight_decay: the paper's 0.1.
    """
    groups: dict[tuple[float, float, type], list[Tensor]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = layer_decay ** (depth + 1 - layer_of(name, depth))
            # Sharded parameters are of a type of their own and cannot be updated in one call with whole ones.
            groups[scale, weight_decay if decays(name, parameter) else 0.0, type(parameter)].append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "scale": scale, "weight_decay": wd} for (scale, wd, _), parameters in groups.items()],
        lr=1.0,
        betas=(0.9, 0.999),
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the rate times its layer scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's: average = decay * average + (1 - decay) * model."""
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for kept, current in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(current)
