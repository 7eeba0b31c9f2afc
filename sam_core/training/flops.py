"""What a training step has to compute, counted by torch on tensors without memory."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from sam_core.model.prompt_encoder import Prompts
from sam_core.model.skeleton import skeleton
from sam_core.training.config import TrainConfig

_WITH_BACKWARD = 3
"""A backward pass multiplies twice as many matrices as the forward pass before it."""


@dataclass(frozen=True, slots=True)
class Workload:
    """FLOP of a step: for its images, and per mask; and what the machines could do, FLOP per second."""

    images: float
    mask: float
    peak: float

    def utilisation(self, masks: float, seconds: float) -> float:
        """Share of the machines' rate that a step reached, 0..1."""
        return (self.images + masks * self.mask) / seconds / self.peak


def workload(config: TrainConfig, peak: float) -> Workload:
    """The workload of a run's steps."""
    images = step_flops(config, masks=0)
    return Workload(images, step_flops(config, masks=1) - images, peak)


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP per second in products of large matrices, best of three: what utilisation is a share of.

    One is enough where it takes a second, as in bfloat16 without instructions for it.
    """
    side = 1024 if device == "cpu" else 8192
    a, b = torch.ones(2, side, side, device=device, dtype=dtype)
    seconds = []
    for _ in range(4):  # the first one warms up
        start = time.perf_counter()
        product = a @ b
        if device != "cpu":
            torch.cuda.synchronize()
        del product
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > 1:
            break
    return 2 * side**3 / min(seconds[1:] or seconds)


def step_flops(config: TrainConfig, *, masks: float) -> float:
    """FLOP of one training step, forward and backward, all rounds; a multiply-accumulate is two.

    What activation checkpointing computes a second time is not counted: utilisation is of the work, not of the effort.

    Args:
        config: of the run.
        masks: masks of the step, over all its images.
    """
    encoder, decoder = _forward_flops(config)
    encoding = config.images * encoder * (1 if config.freeze_encoder else _WITH_BACKWARD)
    return encoding + masks * config.rounds * decoder * _WITH_BACKWARD if config.aim == "segment" else encoding


def _forward_flops(config: TrainConfig) -> tuple[int, int]:
    """FLOP of encoding one image, and of decoding one prompt."""
    sam = skeleton(config.sam)
    with torch.device("meta"):
        image = torch.empty(1, 3, config.image_size, config.image_size)
        prompts = Prompts(points=torch.empty(1, 1, 2), labels=torch.empty(1, 1, dtype=torch.int64))
    with FlopCounterMode(display=False) as encoding:
        features = sam.image_encoder(image)
    with FlopCounterMode(display=False) as decoding:
        sam.decode(features, prompts, multimask=True)
    return encoding.get_total_flops(), decoding.get_total_flops()
