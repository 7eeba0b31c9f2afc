"""Copies between the host and a device that do not make the host wait. On a CPU nothing is copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def for_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """The values in memory from which they travel to the device while the host goes on."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor if device.type == "cpu" else tensor.pin_memory()


def to_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """The values on the device, once they have travelled; the host goes on meanwhile."""
    return for_device(values, device).to(device, non_blocking=True)


class OnItsWay:
    """A tensor being copied to the host."""

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensor.device.type == "cpu":
            self._host = tensor
            return
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def arrived(self) -> NDArray[Any]:
        """Its values, once they are all there."""
        if self._event is not None:
            self._event.synchronize()
        values: NDArray[Any] = self._host.numpy()
        return values
