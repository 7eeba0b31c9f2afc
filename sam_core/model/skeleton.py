"""A model without weights: parameters of the right shapes on torch's "meta" device, which holds nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sam_core.model.sam import Sam
from sam_core.presets import SamConfig

_TRUNCATED = {Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_}
"""What makes truncated normal values of uniform ones; torch 2.9 takes these steps one by one."""
_RANDOM = {nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_, *_TRUNCATED}


def skeleton(config: SamConfig) -> Sam:
    """The model of a configuration on the device "meta": no time or memory for values that a checkpoint replaces."""
    with torch.device("meta"), _WithoutValues():
        return Sam(config)


class _WithoutValues(TorchFunctionMode):
    """Leaves out random values. For tensors that hold nothing torch would first read its compiler, which takes a new
    process longer than everything else that loading a small model needs, and go through Python for every one."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function in _RANDOM:  # torch passes the tensor by name or by place
            return (*args, *kwargs.values())[0]
        return (torch.empty if function is torch.randn else function)(*args, **kwargs)
