"""Numbers too small for float32's full precision, which a CPU computes with a hundred times more slowly."""

from __future__ import annotations

import torch


def zero_subnormals() -> None:
    """Let a thread that trains on a CPU take numbers below 1.2e-38 for zero from here on.

    Most gradients of an attention's scores are so small: probabilities near zero times a loss averaged over an image's
    pixels. They change nothing, and products of matrices full of them took 80 times as long: half of a training step.
    Call it before the thread's first operation: the helpers that share its operations are made by that one and inherit
    what it was told.
    """
    torch.set_flush_denormal(True)
