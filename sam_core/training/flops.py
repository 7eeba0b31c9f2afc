"""What a training step has to compute, counted by torch on tensors without memory."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from sam_core.model.prompt_encoder import Prompts
from sam_core.model.sam import Sam
from sam_core.training.presets import TrainConfig

_WITH_BACKWARD = 3
"""A backward pass multiplies twice as many matrices as the forward pass before it."""


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
    with torch.device("meta"):
        sam = Sam(config.sam)
        image = torch.empty(1, 3, config.image_size, config.image_size)
        prompts = Prompts(points=torch.empty(1, 1, 2), labels=torch.empty(1, 1, dtype=torch.int64))
    with FlopCounterMode(display=False) as encoding:
        features = sam.image_encoder(image)
    with FlopCounterMode(display=False) as decoding:
        sam.decode(features, prompts, multimask=True)
    return encoding.get_total_flops(), decoding.get_total_flops()
